import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { answers, freePort } from './gateway.ts';

/** A squid that sees each request, as one does that opens TLS, and lets no upgrade pass. */
export interface BenchSquid {
  readonly port: number;
  readonly child: ChildProcess;
}

/** Starts it before what listens on this port; undefined where there is none. The caller ends it. */
export async function startSquid(parent: string, upstreamPort: number): Promise<BenchSquid | undefined> {
  const program = ['/usr/sbin/squid', '/usr/local/sbin/squid'].find((path) => existsSync(path));
  if (program === undefined) return undefined;
  const port = await freePort();
  const folder = join(parent, `squid-${port}`);
  mkdirSync(folder, { mode: 0o777 });
  const config = join(folder, 'squid.conf');
  writeFileSync(
    config,
    `http_port 127.0.0.1:${port} accel vhost
cache_peer 127.0.0.1 parent ${upstreamPort} 0 no-query no-digest originserver login=PASSTHRU
never_direct allow all
http_access allow all
cache deny all
pid_filename none
access_log none
cache_log /dev/null
coredump_dir ${folder}
shutdown_lifetime 0 seconds
`,
  );
  const child = spawn(program, ['-N', '-f', config], { stdio: 'ignore' });
  while (!(await answers(port))) {
    if (child.exitCode !== null) throw new Error('squid ended');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return { port, child };
}
