import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { makeCertificates } from '../test/e2e/support/certificates.ts';
import type { Certificates } from '../test/e2e/support/certificates.ts';
import { start } from '../test/e2e/support/process.ts';
import { Scratch } from '../test/e2e/support/scratch.ts';
import { startSshd } from '../test/e2e/support/sshd.ts';
import type { Sshd } from '../test/e2e/support/sshd.ts';
import { withTokenFile } from './connect.ts';
import { median, quantile } from './support/figure.ts';
import type { Effort, Figure, Row } from './support/figure.ts';
import { freePort, root, startGateway } from './support/gateway.ts';

type SshRow = Row<'medianMs' | 'p90Ms' | 'addedMs'>;

/** How long a whole `ssh host true` takes, and how much of that is the path. */
export const sshs = {
  name: 'ssh',
  title: 'ssh host true on loopback',
  columns: {
    medianMs: ['median ms', 1],
    p90Ms: ['p90 ms', 1],
    addedMs: ['more than direct, round by round, ms', 1],
  },
  measure: run,
} as const satisfies Figure<keyof SshRow['values']>;

async function run({ quick, folder }: Effort): Promise<readonly SshRow[]> {
  const scratch = new Scratch();
  const sshd = await startSshd(scratch);
  const gateway = await startGateway(folder, sshd.port);
  try {
    const certificates = await makeCertificates(scratch);
    const url = `https://localhost:${await startNginx(scratch, gateway.port, certificates)}/ssh/`;
    const env = {
      ...withTokenFile(folder),
      POSTERN_GATEWAY: url,
      POSTERN_CA_FILE: certificates.authorityFile,
    };
    const config = writeConfig(scratch, sshd);
    const hosts = {
      direct: 'direct',
      'postern connect, nginx with TLS before the gateway': 'postern',
      'ssh -J, a plain sshd in between': 'jump',
    };
    const times = new Map<string, number[]>(Object.keys(hosts).map((what) => [what, []]));
    const rounds = quick ? 7 : 40;
    for (let round = -1; round < rounds; round++) {
      const order = round % 2 === 0 ? Object.entries(hosts) : Object.entries(hosts).toReversed();
      for (const [what, host] of order) {
        const time = await ssh(config, host, env);
        // The first round warms the caches.
        if (round >= 0) times.get(what)!.push(time);
      }
    }
    const direct = times.get('direct')!;
    return [...times].map(([what, each]) => ({
      what,
      values: {
        medianMs: median(each),
        p90Ms: quantile(each, 0.9),
        addedMs: median(each.map((time, round) => time - direct[round]!)),
      },
    }));
  } finally {
    gateway.child.kill('SIGKILL');
    await scratch.end();
  }
}

/** TLS as an administrator would put it before a gateway; gives its port. */
async function startNginx(
  scratch: Scratch,
  gatewayPort: number,
  certificates: Certificates,
): Promise<number> {
  const port = await freePort();
  const file = scratch.path('nginx.conf');
  mkdirSync(scratch.path('nginx'));
  writeFileSync(
    file,
    `daemon off;
worker_processes 1;
pid ${scratch.path('nginx/pid')};
error_log stderr error;
events {}
http {
  access_log off;
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${scratch.path('nginx')};`).join(' ')}
  server {
    listen 127.0.0.1:${port} ssl;
    ssl_certificate ${certificates.certificateFile};
    ssl_certificate_key ${certificates.keyFile};
    location /ssh/ {
      proxy_pass http://127.0.0.1:${gatewayPort};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
      proxy_read_timeout 1h;
    }
  }
}
`,
  );
  await start(scratch, ['nginx', '-c', file, '-p', scratch.path('nginx'), '-e', 'stderr'], { port });
  return port;
}

function writeConfig(scratch: Scratch, { port, user, identityFile, hostKey }: Sshd): string {
  const [config, knownHosts] = [scratch.path('ssh_config'), scratch.path('known_hosts')];
  writeFileSync(knownHosts, `box ${hostKey}\n`);
  const client = `"${process.execPath}" "${join(root, 'dist/postern.cjs')}" connect box`;
  writeFileSync(
    config,
    `Host postern
  ProxyCommand ${client}
Host jump
  ProxyJump direct
Host *
  HostName 127.0.0.1
  Port ${port}
  User ${user}
  IdentityFile ${identityFile}
  IdentitiesOnly yes
  HostKeyAlias box
  UserKnownHostsFile ${knownHosts}
  GlobalKnownHostsFile /dev/null
  BatchMode yes
`,
    { mode: 0o600 },
  );
  return config;
}

/** Runs it; resolves to how long it took. */
async function ssh(config: string, host: string, env: Readonly<Record<string, string>>): Promise<number> {
  const startedAt = performance.now();
  const child = spawn('ssh', ['-F', config, host, 'true'], {
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const [code] = (await once(child, 'exit')) as [number | null];
  if (code !== 0) throw new Error(`ssh ${host} ended with ${code}`);
  return performance.now() - startedAt;
}
