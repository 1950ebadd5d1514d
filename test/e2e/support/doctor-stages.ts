import { writeFileSync } from 'node:fs';
import { freePort, output, start, type Environment } from './process.ts';
import { startFront, type CorporateProxy, type FrontName, type FrontPlan } from './proxies.ts';
import type { Scratch } from './scratch.ts';
import type { World } from './world.ts';

/** What all faults share: the web server, the gateway and the sshd that work, and a proxy to them. */
export interface DoctorSetup {
  readonly scratch: Scratch;
  readonly world: World;
  readonly proxy: CorporateProxy;
}

/** What the doctor gets besides the usual environment and arguments. */
export interface Staged {
  readonly env?: Environment;
  readonly args?: readonly string[];
}

export function gatewayAt(host: string, port: number, path = '/ssh/'): Environment {
  return { POSTERN_GATEWAY: `https://${host}:${port}${path}` };
}

/** For a server called `name`. */
interface Certificate {
  /** `ours`, or the name of another authority that no client trusts. */
  readonly issuer: string;
  readonly name: string;
  readonly days: number;
}

function pair(path: string): string {
  return `-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ${path}`;
}

/** Arguments are split at spaces, but for those that begin with a slash. */
function openssl(...args: string[]): Promise<Buffer> {
  return output(['openssl', ...args.flatMap((each) => (each.startsWith('/') ? [each] : each.split(' ')))]);
}

/** The shipped file of a front with one change, before the same gateway. */
export async function changedFront(
  { world }: DoctorSetup,
  own: Scratch,
  name: FrontName,
  replacing: FrontPlan['replacing'],
  upstreamPort?: number,
): Promise<Staged> {
  const port = await freePort();
  const { certificates } = world;
  await startFront(own, name, {
    certificates,
    port,
    upstreamPort: upstreamPort ?? world.gateway.port,
    ...(replacing && { replacing }),
  });
  return { env: gatewayAt('localhost', port) };
}

/** Through this proxy to a port at which the proxy finds the gateway; absent: that of the web server. */
export function throughProxy(
  { world }: DoctorSetup,
  url: string,
  port = Number(new URL(world.url).port),
): Staged {
  return { env: { ...gatewayAt('gw.example', port), HTTPS_PROXY: url } };
}

/** openssl as a TLS server that shows a certificate of our authority, or of another. */
export async function tlsServer(setup: DoctorSetup, own: Scratch, certificate: Certificate): Promise<Staged> {
  const [file, key] = await makeCertificate(setup, own, certificate);
  const port = await freePort();
  const argv = ['openssl', 's_server', '-quiet', '-accept', `127.0.0.1:${port}`, '-cert', file, '-key', key];
  await start(own, argv, { port });
  return { env: gatewayAt('localhost', port) };
}

async function makeCertificate(
  { world, scratch }: DoctorSetup,
  own: Scratch,
  { issuer, name, days }: Certificate,
): Promise<[string, string]> {
  let [authority, authorityKey] = [world.certificates.authorityFile, scratch.path('authority.key')];
  if (issuer !== 'ours') {
    [authority, authorityKey] = [own.path('other.pem'), own.path('other.key')];
    await openssl('req -x509 -days 2', pair(authorityKey), '-out', authority, '-subj', `/O=${issuer}`);
  }
  const [key, request, file, names] = ['tls.key', 'tls.csr', 'tls.pem', 'tls.names'].map((each) =>
    own.path(each),
  ) as [string, string, string, string];
  writeFileSync(names, `subjectAltName=DNS:${name}\n`);
  await openssl('req -new', pair(key), '-out', request, '-subj', `/CN=${name}`);
  const signed = `x509 -req -days ${days} -CAcreateserial -extfile ${names} -in ${request} -out ${file}`;
  await openssl(signed, '-CA', authority, '-CAkey', authorityKey);
  return [file, key];
}
