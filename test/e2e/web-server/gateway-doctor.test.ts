import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import type { JsonFinding, JsonStatus } from '../../../diagnostics/render.ts';
import { makeCertificates } from '../support/certificates.ts';
import type { Certificates } from '../support/certificates.ts';
import { gatewayCommand, startGateway } from '../support/gateway.ts';
import type { Gateway, GatewayOptions } from '../support/gateway.ts';
import { needs } from '../support/needs.ts';
import { freePort, run } from '../support/process.ts';
import { fronts, startFront } from '../support/proxies.ts';
import type { FrontName, FrontPlan } from '../support/proxies.ts';
import { openScratch, scratchOf } from '../support/scratch.ts';
import type { Scratch } from '../support/scratch.ts';
import { startSshd } from '../support/sshd.ts';
import type { Sshd } from '../support/sshd.ts';

/** A fault of the web server before the gateway, or of its configuration. */
interface Fault {
  readonly what: string;
  readonly front?: FrontName;
  /** One change in the file that we ship. */
  readonly replacing?: FrontPlan['replacing'] | ((gateway: Gateway) => FrontPlan['replacing']);
  readonly settings?: object;
  /** More arguments of the doctor. */
  readonly args?: (port: number) => readonly string[];
  readonly isStopped?: true;
  readonly check: string;
  readonly verdict: JsonStatus;
  readonly says: RegExp;
}

const faults: readonly Fault[] = [
  {
    what: 'a gateway that does not run',
    isStopped: true,
    check: 'running',
    verdict: 'failed',
    says: /not running.*postern-gateway serve/s,
  },
  {
    what: 'a web server that does not reach the gateway',
    replacing: [/proxy_pass http:[^;]*;/g, 'proxy_pass http://127.0.0.1:9;'],
    check: 'prefix',
    verdict: 'failed',
    says: /answers 502.*forwards to another address.*nginx: location \/ssh\//s,
  },
  {
    what: 'a name that no name server knows',
    args: () => ['https://nowhere.invalid/ssh/'],
    check: 'name',
    verdict: 'failed',
    says: /DNS/,
  },
  {
    what: 'a port on which no process listens',
    args: () => ['https://localhost:9/ssh/'],
    check: 'connection',
    verdict: 'failed',
    says: /ECONNREFUSED/,
  },
  {
    what: 'an authority that is not trusted',
    args: (port) => [`https://localhost:${port}/ssh/`, '--ca-file', '/etc/ssl/certs/ca-certificates.crt'],
    check: 'tls',
    verdict: 'failed',
    says: /full chain/,
  },
  {
    what: 'a path that is not forwarded',
    replacing: ['location /ssh/', 'location /shh/'],
    check: 'prefix',
    verdict: 'failed',
    says: /answers 404.*does not forward this path/s,
  },
  {
    what: 'a path that is changed on the way',
    replacing: (gateway) => [/proxy_pass http:[^;]*;/, `proxy_pass http://127.0.0.1:${gateway.port}/;`],
    check: 'prefix',
    verdict: 'failed',
    says: /changes the path/,
  },
  {
    what: 'nginx that does not forward Upgrade',
    replacing: [/^ *proxy_set_header (?:Upgrade|Connection) .*$/gm, ''],
    check: 'entry-websocket',
    verdict: 'failed',
    says: /without its Upgrade field.*nginx: proxy_http_version 1\.1; proxy_set_header Upgrade/s,
  },
  {
    what: 'nginx that forwards WebSockets only',
    replacing: [/^ *connect-tcp.*$/gm, ''],
    check: 'entry-connect-tcp',
    verdict: 'costly',
    says: /connect-tcp connect-tcp;/,
  },
  {
    what: 'Apache that forwards WebSockets only',
    front: 'apache',
    replacing: [/upgrade=ANY/g, 'upgrade=websocket'],
    check: 'entry-connect-tcp',
    verdict: 'costly',
    says: /apache: ProxyPass … upgrade=ANY/,
  },
  {
    what: 'nginx that forwards the address that callers claim',
    replacing: [/X-Forwarded-For .*;/g, 'X-Forwarded-For $http_x_forwarded_for;'],
    check: 'address',
    verdict: 'failed',
    says: /can choose.*X-Forwarded-For \$remote_addr/s,
  },
  {
    what: 'nginx that forwards no address of its callers',
    replacing: [/X-Forwarded-For .*;/g, 'X-Forwarded-For "";'],
    check: 'address',
    verdict: 'failed',
    says: /that of every client/,
  },
  {
    what: 'a gateway that does not trust its web server',
    settings: { trustedProxies: [] },
    check: 'address',
    verdict: 'failed',
    says: /trustedProxies: \[127\.0\.0\.1\]/,
  },
  {
    what: 'nginx that accepts lines of 8 KiB at most',
    replacing: [/large_client_header_buffers .*;/, ''],
    check: 'headers',
    verdict: 'costly',
    says: /large_client_header_buffers 4 16k/,
  },
  {
    what: 'nginx that holds answers back',
    replacing: [/proxy_buffering .*;/g, 'proxy_buffering on;'],
    check: 'streaming',
    verdict: 'costly',
    says: /proxy_buffering off/,
  },
  {
    what: 'nginx that cuts what is silent for a second',
    replacing: [/proxy_read_timeout .*;/g, 'proxy_read_timeout 1s;'],
    check: 'idle',
    verdict: 'costly',
    says: /proxy_read_timeout 1h/,
  },
  {
    what: 'HAProxy that cuts tunnels that are silent for a second',
    front: 'haproxy',
    replacing: [/timeout tunnel .*/, 'timeout tunnel 1s'],
    args: () => ['--host', 'box'],
    check: 'tunnel',
    verdict: 'costly',
    says: /timeout tunnel 1h/,
  },
  {
    what: 'a host that no rule allows to any user',
    args: () => ['--host', 'other'],
    check: 'tunnel',
    verdict: 'failed',
    says: /no rule allows other:22 \(TARGET_DENIED\).*targets: \['other:22'\]/s,
  },
  {
    what: 'a web server that publishes the admin listener',
    replacing: (gateway) => [
      'location /ssh/ {',
      `location /metrics { proxy_pass http://127.0.0.1:${gateway.adminPort}; }\n    location /ssh/ {`,
    ],
    check: 'admin',
    verdict: 'failed',
    says: /exposes/,
  },
];

const lacking = needs('nginx', 'haproxy', 'apache2', 'caddy', 'openssl', 'sshd');

// Each has a gateway and a web server of its own, and most of its time is waiting for what the doctor waits for.
describe('postern-gateway doctor', { ...lacking, concurrency: 4 }, () => {
  const scratch = openScratch();
  let certificates: Certificates;
  let sshd: Sshd;
  before(async () => {
    [certificates, sshd] = await Promise.all([makeCertificates(scratch), startSshd(scratch)]);
  });

  interface Setup {
    readonly gateway: Gateway;
    readonly port: number;
  }

  async function setUp(
    own: Scratch,
    front: FrontName,
    { replacing, settings }: Pick<Fault, 'replacing' | 'settings'> = {},
  ): Promise<Setup> {
    const port = await freePort();
    const options: GatewayOptions = {
      targets: { box: `127.0.0.1:${sshd.port}` },
      publicPort: port,
      settings: { entries: ['relay', 'websocket', 'connect-tcp', 'connect'], ...settings },
    };
    const gateway = await startGateway(own, options);
    const change = typeof replacing === 'function' ? replacing(gateway) : replacing;
    const plan = { certificates, port, upstreamPort: gateway.port, ...(change && { replacing: change }) };
    await startFront(own, front, plan);
    return { gateway, port };
  }

  async function runDoctor({ gateway }: Setup, args: readonly string[]) {
    const authority = args.includes('--ca-file') ? [] : ['--ca-file', certificates.authorityFile];
    const command = [...gatewayCommand, 'doctor', '--json', '--config', gateway.configFile, ...authority];
    const { code, stdout, stderr } = await run([...command, ...args], { timeoutMs: 60_000 });
    assert.notEqual(stdout.length, 0, stderr.toString());
    const { findings } = JSON.parse(stdout.toString()) as { findings: readonly JsonFinding[] };
    return { code, findings, story: JSON.stringify(findings, undefined, 1) };
  }

  for (const { what, front = 'nginx', args, isStopped, check, verdict, says, ...changes } of faults) {
    it(`names ${check} for ${what}`, async (t) => {
      const set = await setUp(scratchOf(t), front, changes);
      if (isStopped === true) await set.gateway.running.stop();
      const { code, findings, story } = await runDoctor(set, args?.(set.port) ?? []);
      const finding = findings.find((each) => each.check === check);
      assert.equal(finding?.verdict, verdict, story);
      const words = [finding.what, finding.meaning, finding.advice, ...(finding.lines ?? [])].join('\n');
      assert.match(words, says);
      const first = findings.find((each) => each.verdict === 'failed');
      assert.equal(
        first?.check.startsWith('entry-') ? 'entry-websocket' : first?.check,
        verdict === 'failed' ? check : undefined,
        story,
      );
      assert.equal(code, verdict === 'failed' ? 1 : 0);
    });
  }

  for (const front of Object.keys(fronts) as FrontName[]) {
    it(`finds nothing wrong with ${front} and the file that we ship`, async (t) => {
      const set = await setUp(scratchOf(t), front);
      const { code, findings, story } = await runDoctor(set, ['--host', 'box']);
      const wrong = findings.filter(({ verdict }) => verdict === 'failed' || verdict === 'costly');
      assert.deepEqual([wrong, code], [[], 0], story);
      assert.match(findings.find(({ check }) => check === 'tunnel')!.what, /SSH-2\.0-OpenSSH/);
    });
  }

  it('prints a line for each, and what comes first', async (t) => {
    const { gateway } = await setUp(
      scratchOf(t),
      'nginx',
      faults.find(({ check }) => check === 'headers'),
    );
    const command = [
      ...gatewayCommand,
      'doctor',
      '--config',
      gateway.configFile,
      '--ca-file',
      certificates.authorityFile,
    ];
    const { code, stdout } = await run(command, { env: { LC_ALL: 'C' } });
    assert.equal(code, 0);
    assert.match(stdout.toString(), /^ok {3}prefix .*\n/m);
    assert.match(stdout.toString(), /^The gateway can be reached\. Worth a look: large headers\.$/m);
    assert.match(stdout.toString('latin1'), /^[\x20-\x7e\n]+$/);
  });
});
