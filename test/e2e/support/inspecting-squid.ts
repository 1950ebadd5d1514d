import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Certificates } from './certificates.ts';
import { findProgram } from './needs.ts';
import { freePort, output, start, type Running } from './process.ts';
import { killAll, type CorporateProxy } from './proxies.ts';
import type { Scratch } from './scratch.ts';

/** What `needs` is asked for: a squid that was built with OpenSSL (Debian: squid-openssl). */
export const inspectingSquid = knowsTls() ? 'squid' : 'squid-openssl';

function knowsTls(): boolean {
  const squid = findProgram('squid');
  return squid !== undefined && spawnSync(squid, ['-v'], { encoding: 'utf8' }).stdout.includes('openssl');
}

/**
 * Starts a squid that opens TLS by an authority of its own, as companies do it, and lets no upgrade pass, which is its
 * default; to it, gw.example is 127.0.0.1.
 */
export async function startInspectingSquid(
  scratch: Scratch,
  { authorityFile: gatewayAuthority }: Certificates,
): Promise<CorporateProxy & { readonly authorityFile: string }> {
  const squid = findProgram('squid')!;
  // Also where the package is not installed, only unpacked.
  const certificates = join(dirname(dirname(squid)), 'lib/squid/security_file_certgen');
  const [port, folder] = [await freePort(), scratch.path('inspecting-squid')];
  mkdirSync(folder);
  const [authorityFile, keyFile, hosts] = ['authority.pem', 'authority.key', 'hosts'].map((name) =>
    join(folder, name),
  ) as [string, string, string];
  await output(
    `openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=inspection -keyout ${keyFile} -out ${authorityFile}
     -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign`.split(/\s+/),
  );
  const combined = join(folder, 'combined.pem');
  writeFileSync(combined, Buffer.concat([readFileSync(authorityFile), readFileSync(keyFile)]));
  writeFileSync(hosts, '127.0.0.1 gw.example\n');
  const database = join(folder, 'certificates');
  await output([certificates, '-c', '-s', database, '-M', '4MB']);
  if (process.getuid?.() === 0) await output(['chown', '-R', 'proxy', folder]);
  const main = join(folder, 'squid.conf');
  writeFileSync(
    main,
    `http_port 127.0.0.1:${port} ssl-bump tls-cert=${combined} generate-host-certificates=on dynamic_cert_mem_cache_size=4MB
sslcrtd_program ${certificates} -s ${database} -M 4MB
sslcrtd_children 2
tls_outgoing_options cafile=${gatewayAuthority}
acl first at_step SslBump1
ssl_bump peek first
ssl_bump bump all
pid_filename none
hosts_file ${hosts}
access_log stdio:${join(folder, 'access.log')}
cache_log ${join(folder, 'cache.log')}
cache deny all
coredump_dir ${folder}
shutdown_lifetime 0 seconds
http_access allow all
`,
  );
  const launch = (): Promise<Running> => start(scratch, [squid, '-N', '-f', main], { port });
  let running = await launch();
  const url = `http://127.0.0.1:${port}`;
  return {
    url,
    urlWithoutPassword: url,
    authorityFile,
    async start() {
      running = await launch();
    },
    kill: () => killAll(running),
    accessLog: () => readFileSync(join(folder, 'access.log'), 'utf8'),
  };
}
