import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import type { TunnelErrorCode } from '../../../protocol/errors.ts';
import { tunnelErrors } from '../../../protocol/errors.ts';
import { runDoctor } from '../support/doctor.ts';
import { clientBundle } from '../support/needs.ts';
import { needsNetwork, openNetwork } from '../support/network.ts';
import type { Network } from '../support/network.ts';
import { freePort, output, within } from '../support/process.ts';
import type { Environment } from '../support/process.ts';
import { openScratch } from '../support/scratch.ts';
import { box } from '../support/ssh.ts';
import { openWorld } from '../support/world.ts';
import type { World } from '../support/world.ts';

/** Faults of the network itself: the client is in a namespace of its own, and finds the gateway by DNS. */
describe('postern doctor in a network', needsNetwork('nginx', 'sshd', 'ssh', clientBundle), () => {
  const scratch = openScratch();
  let network: Network;
  let world: World;
  let port: string;
  before(async () => {
    network = await openNetwork(scratch);
    const { client, address } = network;
    world = await openWorld(scratch, 'nginx', {
      clientNamespace: client,
      host: 'gw.example',
      front: { address },
    });
    ({ port } = new URL(world.url));
  });

  interface Fault {
    readonly what: string;
    readonly env?: () => Promise<Environment> | Environment;
    /** Brings it about; gives what undoes it. */
    readonly stage?: () => Promise<void>;
    readonly check: string;
    readonly code: TunnelErrorCode;
    readonly says: RegExp;
  }

  const faults: readonly Fault[] = [
    {
      what: 'a name that no name server knows',
      env: () => ({ POSTERN_GATEWAY: `https://gww.example:${port}/ssh/` }),
      check: 'name',
      code: 'GATEWAY_UNREACHABLE',
      says: /misspelled/,
    },
    {
      what: 'a proxy whose name no name server knows',
      env: () => ({ HTTPS_PROXY: 'http://proxy.example:3128' }),
      check: 'name',
      code: 'PROXY_UNREACHABLE',
      says: /unset HTTPS_PROXY/,
    },
    {
      what: 'a port on which no process listens',
      env: async () => ({ POSTERN_GATEWAY: `https://gw.example:${await freePort()}/ssh/` }),
      check: 'connection',
      code: 'GATEWAY_UNREACHABLE',
      says: /no program listens/,
    },
    {
      what: 'a firewall that lets the port vanish',
      stage: () => rule(`tcp dport ${port} drop`),
      check: 'connection',
      code: 'GATEWAY_TIMEOUT',
      says: /firewall.*export HTTPS_PROXY/s,
    },
    {
      what: 'a firewall that resets',
      stage: () => rule(`tcp dport ${port} reject with tcp reset`),
      check: 'connection',
      code: 'GATEWAY_UNREACHABLE',
      says: /no program listens/,
    },
    {
      what: 'a proxy that is not in this network',
      env: () => ({ HTTPS_PROXY: `http://${network.address}:3128` }),
      stage: () => rule('tcp dport 3128 drop'),
      check: 'connection',
      code: 'PROXY_UNREACHABLE',
      says: /another|not in now/,
    },
    {
      what: 'name servers that are silent',
      stage: () => rule('udp dport 53 drop'),
      check: 'name',
      code: 'GATEWAY_TIMEOUT',
      says: /cannot resolve names/,
    },
    {
      what: 'a cable that is pulled',
      stage: () => network.cut('down'),
      check: 'name',
      code: 'GATEWAY_TIMEOUT',
      says: /offline/,
    },
  ];

  async function rule(text: string): Promise<void> {
    await output(within(network.servers, ['nft', 'add', 'rule', 'inet', 'cut', 'in', ...text.split(' ')]));
  }

  for (const { what, env, stage, check, code, says } of faults) {
    it(`names ${check} for ${what}`, async () => {
      await stage?.();
      try {
        const examined = await runDoctor(world, [box], await env?.());
        const story = JSON.stringify(examined.findings, undefined, 1);
        const { first } = examined;
        assert.deepEqual([first?.check, first?.code], [check, code], story);
        assert.match([first?.meaning, first?.advice, ...(first?.lines ?? [])].join('\n'), says);
        assert.equal(examined.outcome.code, tunnelErrors[code].exit);
      } finally {
        await network.restore();
      }
    });
  }

  it('finds nothing in the way afterwards', async () => {
    const examined = await runDoctor(world, [box]);
    assert.equal(examined.outcome.code, 0, JSON.stringify(examined.findings, undefined, 1));
    assert.match(examined.finding('name').what, /gw\.example is 10\.77\.0\.1/);
    assert.match(examined.finding('sign-in').what, /the gateway sees you connect from 10\.77\.0\.2/);
  });
});
