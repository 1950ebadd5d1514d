import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { Gateway } from '../support/gateway.ts';
import { startListener } from '../support/listener.ts';
import type { Listener } from '../support/listener.ts';
import { clientBundle } from '../support/needs.ts';
import { needsNetwork } from '../support/network.ts';
import type { Network } from '../support/network.ts';
import { eventually, own, within } from '../support/process.ts';
import type { AuditRecord } from '../support/resume.ts';
import { openScratch } from '../support/scratch.ts';
import { startSilentTarget } from '../support/silent-target.ts';

/** Connects to a port or a path, asks by SOCKS if told to, sends bytes, says that it is ready, and does nothing more. */
const program = `import socket, sys, time
place, how, count, ends = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == 'end'
s = socket.socket(socket.AF_UNIX) if '/' in place else socket.socket()
s.connect(place if '/' in place else ('127.0.0.1', int(place)))
if how == 'socks': s.sendall(b'\\x05\\x01\\x00' + b'\\x05\\x01\\x00\\x03\\x06silent\\x00\\x16')
s.sendall(bytes(count))
if ends: s.shutdown(socket.SHUT_WR)
print('ready', flush=True)
time.sleep(600)`;

interface Caller {
  readonly at: 'port' | 'path' | 'socks';
  readonly sends?: number;
  readonly isHalfClosed?: boolean;
}

const callers: readonly Caller[] = [
  { at: 'port' },
  { at: 'port', isHalfClosed: true },
  { at: 'port', sends: 4_000_000 },
  { at: 'path' },
  { at: 'path', isHalfClosed: true },
  { at: 'socks' },
  { at: 'socks', sends: 100, isHalfClosed: true },
];

describe(
  'postern listen, when its caller is killed',
  needsNetwork(clientBundle, 'openssl', 'python3'),
  () => {
    const scratch = openScratch();
    let network: Network;
    let gateway: Gateway;
    let listener: Listener;

    before(async () => {
      const silent = await startSilentTarget(scratch);
      ({ network, gateway } = silent);
      const path = `${scratch.path('silent.sock')}:silent:22`;
      const places = ['--listen', '0', '-L', '0:silent:22', '-L', path];
      listener = await startListener(scratch, places, silent.env, network.client);
    });

    function audited(event: string): AuditRecord[] {
      const lines = readFileSync(gateway.auditFile, 'utf8').split('\n').filter(Boolean);
      return lines
        .map((line) => JSON.parse(line) as AuditRecord)
        .filter((record) => record['event'] === event);
    }

    /** A local program, with its tunnel open. */
    async function openTunnel({ at, sends = 0, isHalfClosed = false }: Caller): Promise<ChildProcess> {
      const before = audited('open').length;
      const place = {
        socks: String(listener.port(0)),
        port: String(listener.port(1)),
        path: listener.door(2),
      }[at];
      const args = [place, at, String(sends), isHalfClosed ? 'end' : 'stay'];
      const [command, ...rest] = within(network.client, ['python3', '-c', program, ...args]);
      const child = own(spawn(command!, rest, { stdio: ['ignore', 'pipe', 'inherit'] }));
      scratch.onEnd(() => void child.kill('SIGKILL'));
      await once(child.stdout, 'data');
      await eventually(() => audited('open').length > before, 'the tunnel');
      return child;
    }

    it('ends its tunnel, while its target is silent, and those of others stay', async () => {
      const [killed, alive]: ChildProcess[][] = [[], []];
      for (const caller of callers) {
        killed!.push(await openTunnel(caller));
        alive!.push(await openTunnel(caller));
      }
      for (const child of killed!) child.kill('SIGKILL');
      await eventually(() => audited('end').length >= callers.length, 'the ends', 60_000);
      // Several looks at the connections later too.
      await delay(5000);
      assert.equal(audited('end').length, callers.length);
      for (const child of alive!) {
        assert.equal(child.exitCode ?? child.signalCode, null);
        child.kill('SIGKILL');
      }
      await eventually(() => audited('end').length === 2 * callers.length, 'the other ends', 60_000);
      assert.deepEqual(listener.codes(), []);
    });
  },
);
