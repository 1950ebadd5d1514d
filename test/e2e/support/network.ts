import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findProgram, needs } from './needs.ts';
import { output, run, start, within } from './process.ts';
import type { Scratch } from './scratch.ts';

/** How a network is cut. */
export const cuts = {
  down: "the client's interface goes down: a cable that is pulled, Wi-Fi that is switched off",
  blackhole: 'packets vanish both ways',
  reset: 'a firewall answers every packet with a reset',
  nat: 'packets vanish, and afterwards still those of the connections from before: a NAT that has forgotten',
} as const;

export type Cut = keyof typeof cuts;

/** Two network namespaces with a cable between them: one for the servers, one for the client. */
export interface Network {
  /** The namespace of the servers. */
  readonly servers: string;
  readonly client: string;
  /** The servers' address; to the client it has the name gw.example. */
  readonly address: string;
  cut(how: Cut): Promise<void>;
  /** Undoes a cut, but for what a NAT has forgotten. */
  restore(): Promise<void>;
  /** Takes the client its address and gives it another. */
  moveClient(): Promise<void>;
  /** From now on the client's questions for names get no answer. */
  loseDns(): Promise<void>;
}

/** What `describe` takes where network namespaces are needed, as `needs` for programs. */
export function needsNetwork(...names: string[]): { skip: string | false } {
  const lacking = needs('ip', 'nft', 'ss', 'tc', 'dnsmasq', ...names);
  if (lacking.skip !== false || spawnSync('ip', ['netns', 'exec', 'none', 'true']).error) return lacking;
  if (spawnSync('unshare', ['-n', 'true']).status === 0) return lacking;
  const message = 'network namespaces cannot be made here';
  if (process.env['CI'] === 'true') throw new Error(message);
  process.stderr.write(`SKIPPED: ${message}\n`);
  return { skip: message };
}

const address = '10.77.0.1';
const rate = '240mbit';

/** Makes the namespaces, and a DNS server in that of the servers, until the end of the test file. */
export async function openNetwork(scratch: Scratch): Promise<Network> {
  const [servers, client] = [`postern-s${process.pid}`, `postern-c${process.pid}`];
  // Bound over those of the machine by `ip netns exec`.
  const files = join('/etc/netns', client);
  scratch.onEnd(async () => {
    for (const name of [servers, client]) await run(['ip', 'netns', 'delete', name]);
    rmSync(files, { recursive: true, force: true });
  });
  mkdirSync(files, { recursive: true });
  writeFileSync(join(files, 'resolv.conf'), `nameserver ${address}\noptions timeout:5 attempts:2\n`);
  writeFileSync(join(files, 'hosts'), '127.0.0.1 localhost\n');

  await ip(
    `netns add ${servers}`,
    `netns add ${client}`,
    `link add cable netns ${servers} type veth peer name wlan netns ${client}`,
    `-n ${servers} addr add ${address}/24 dev cable`,
    `-n ${servers} link set lo up`,
    `-n ${servers} link set cable up`,
    `-n ${client} link set lo up`,
    `-n ${client} addr add 10.77.0.2/24 dev wlan`,
    `-n ${client} link set wlan up`,
  );
  for (const [name, device] of [
    [servers, 'cable'],
    [client, 'wlan'],
  ] as const) {
    const shape = `tc qdisc add dev ${device} root tbf rate ${rate} burst 256k latency 50ms`;
    await output(within(name, shape.split(' ')));
  }
  const nft = (rules: string): Promise<Buffer> =>
    output(within(servers, ['nft', '-f', '-']), { input: rules });
  await nft(`table inet cut {
    set forgotten { type inet_service; }
    chain in { type filter hook input priority 0; }
    chain out { type filter hook output priority 0; }
    chain forgetful-in { type filter hook input priority 1; tcp sport @forgotten drop; }
    chain forgetful-out { type filter hook output priority 1; tcp dport @forgotten drop; }
  }`);
  scratch.namespace = servers;
  const dns = `--keep-in-foreground --no-resolv --no-hosts --bind-interfaces --listen-address=${address}`;
  // Of the other names in it, it knows that there are none.
  const host = `--address=/gw.example/${address} --local=/example/ --pid-file= --user=root --conf-file=/dev/null`;
  await start(scratch, [findProgram('dnsmasq')!, ...dns.split(' '), ...host.split(' ')], { port: 53 });

  const everything = (verdict: string): Promise<Buffer> =>
    nft(`add rule inet cut in iifname cable ${verdict}\nadd rule inet cut out oifname cable ${verdict}`);
  let host4 = 2;
  return {
    servers,
    client,
    address,
    async cut(how) {
      if (how === 'down') return ip(`-n ${client} link set wlan down`);
      if (how === 'nat') await forget();
      await everything(how === 'reset' ? 'meta l4proto tcp reject with tcp reset' : 'drop');
    },
    async restore() {
      await nft('flush chain inet cut in\nflush chain inet cut out');
      await ip(`-n ${client} link set wlan up`);
    },
    async loseDns() {
      await nft('add rule inet cut forgetful-in udp dport 53 drop');
    },
    async moveClient() {
      const from = host4++;
      await ip(
        // The first address of a network takes the others with it.
        `-n ${client} addr del 10.77.0.${from}/24 dev wlan`,
        `-n ${client} addr add 10.77.0.${host4}/24 dev wlan`,
      );
    },
  };

  async function forget(): Promise<void> {
    const { stdout } = await run(within(client, ['ss', '-Hnt', 'state', 'established', 'dst', address]));
    const ports = [...stdout.toString().matchAll(/10\.77\.0\.\d+:(\d+)\s+10\./g)].map(([, port]) => port);
    await nft('flush set inet cut forgotten');
    if (ports.length > 0) await nft(`add element inet cut forgotten { ${ports.join(', ')} }`);
  }
}

async function ip(...commands: string[]): Promise<void> {
  for (const command of commands) await output(['ip', ...command.split(' ')]);
}
