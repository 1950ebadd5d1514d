import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { clientBundle, findProgram, packageDirectory } from './needs.ts';
import { freePort, output, run, start, within, type Environment } from './process.ts';
import { basicSignIn, startSquid } from './proxies.ts';
import type { Scratch } from './scratch.ts';

/** A proxy that wants a sign-in of alice, and what she has for it. */
export interface SignInProxy {
  readonly port: number;
  /** Without a password in it. */
  readonly url: string;
  /** What lets her in. */
  readonly env: Environment;
  accessLog(): string;
}

/** Where a proxy listens, and the one port that it lets connect to. */
export interface SignInProxyPlan {
  readonly address: string;
  readonly allowedPort: number;
}

const password = 'correct horse';
const realm = 'CORP.EXAMPLE';
/** The name of every proxy here; Kerberos wants one. */
export const proxyHost = 'proxy.example';

async function squid(
  scratch: Scratch,
  plan: SignInProxyPlan,
  options: { name: string; signIn: readonly string[]; squidEnv?: Environment; env: Environment },
): Promise<SignInProxy> {
  const { address, allowedPort } = plan;
  const { name, signIn, squidEnv = {}, env } = options;
  const proxy = await startSquid(scratch, allowedPort, { name, address, signIn, env: squidEnv });
  const port = Number(new URL(proxy.urlWithoutPassword).port);
  return { port, url: `http://${proxyHost}:${port}`, env, accessLog: () => proxy.accessLog() };
}

/** Credentials in the environment. */
export function inEnvironment(user: string, secret = password): Environment {
  return { POSTERN_PROXY_USER: user, POSTERN_PROXY_PASSWORD: secret };
}

export async function startBasicSquid(scratch: Scratch, plan: SignInProxyPlan): Promise<SignInProxy> {
  const signIn = await basicSignIn(scratch);
  return squid(scratch, plan, { name: 'squid-basic', signIn, env: inEnvironment('alice') });
}

/** Offers Basic too, which must not be taken. */
export async function startDigestSquid(scratch: Scratch, plan: SignInProxyPlan): Promise<SignInProxy> {
  const file = scratch.path('digest.passwords');
  const ha1 = createHash('md5').update(`alice:corporate:${password}`).digest('hex');
  writeFileSync(file, `alice:corporate:${ha1}\n`, { mode: 0o644 });
  const signIn = [
    `auth_param digest program /usr/lib/squid/digest_file_auth -c ${file}`,
    'auth_param digest realm corporate',
    'auth_param basic program /bin/false',
    'auth_param basic realm corporate',
  ];
  return squid(scratch, plan, { name: 'squid-digest', signIn, env: inEnvironment('alice') });
}

/** Samba's helper as a server on its own, that knows one user by itself. */
export async function startNtlmSquid(scratch: Scratch, plan: SignInProxyPlan): Promise<SignInProxy> {
  const state = scratch.path('ntlm');
  mkdirSync(state);
  if (process.getuid?.() === 0) await output(['chown', 'proxy', state]);
  const kinds = ['private dir', 'lock directory', 'state directory', 'cache directory', 'pid directory'];
  const config = scratch.path('smb.conf');
  writeFileSync(
    config,
    `[global]
workgroup = CORP
netbios name = PROXY
server role = standalone
ntlm auth = ntlmv2-only
${kinds.map((kind) => `${kind} = ${state}`).join('\n')}
`,
    { mode: 0o644 },
  );
  // Squid parts its configuration at spaces.
  const secret = 'correct-horse';
  const known = `--username=alice --domain=CORP --password=${secret}`;
  const helper = `/usr/bin/ntlm_auth --helper-protocol=squid-2.5-ntlmssp --configfile=${config} ${known}`;
  const signIn = [`auth_param ntlm program ${helper}`, 'auth_param ntlm children 5 startup=1 idle=1'];
  const env = inEnvironment(String.raw`CORP\alice`, secret);
  return squid(scratch, plan, { name: 'squid-ntlm', signIn, env });
}

export interface Kdc {
  readonly port: number;
  /** The environment of its clients. */
  readonly env: Environment;
  /** Puts a ticket for alice into the file of this name. */
  ticket(cache: string): Promise<Environment>;
}

/** Starts a KDC in the namespace of `scratch`, with alice and the proxy in it. */
export async function startKdc(
  scratch: Scratch,
  { address, clientNamespace }: { readonly address: string; readonly clientNamespace: string },
): Promise<Kdc> {
  const port = await freePort();
  const [config, profile, keytab] = ['krb5.conf', 'kdc.conf', 'proxy.keytab'].map((name) =>
    scratch.path(name),
  );
  writeFileSync(
    config!,
    `[libdefaults]
 default_realm = ${realm}
 dns_lookup_realm = false
 dns_lookup_kdc = false
 rdns = false
 dns_canonicalize_hostname = false
 udp_preference_limit = 1
[realms]
 ${realm} = {
  kdc = ${address}:${port}
 }
[domain_realm]
 ${proxyHost} = ${realm}
`,
    { mode: 0o644 },
  );
  writeFileSync(
    profile!,
    `[kdcdefaults]
 kdc_listen = ${address}:${port}
 kdc_tcp_listen = ${address}:${port}
[realms]
 ${realm} = {
  database_name = ${scratch.path('kdc.db')}
  key_stash_file = ${scratch.path('kdc.stash')}
  acl_file = ${scratch.path('kdc.acl')}
 }
[logging]
 kdc = STDERR
`,
  );
  const env = { KRB5_CONFIG: config!, KRB5_KDC_PROFILE: profile! };
  const admin = (query: string): Promise<Buffer> =>
    output([findProgram('kadmin.local')!, '-r', realm, '-q', query], { env });
  await output([findProgram('kdb5_util')!, 'create', '-s', '-r', realm, '-P', 'master'], { env });
  await admin(`addprinc -pw "${password}" alice`);
  await admin(`addprinc -randkey HTTP/${proxyHost}`);
  await admin(`ktadd -k ${keytab} HTTP/${proxyHost}`);
  if (process.getuid?.() === 0) await output(['chown', 'proxy', keytab!]);
  await start(scratch, [findProgram('krb5kdc')!, '-n', '-r', realm], { port, env });
  const clientEnv = { KRB5_CONFIG: config! };
  return {
    port,
    env: clientEnv,
    async ticket(cache) {
      const withCache = { ...clientEnv, KRB5CCNAME: `FILE:${scratch.path(cache)}` };
      const kinit = within(clientNamespace, ['kinit', `alice@${realm}`]);
      await output(kinit, { env: withCache, input: `${password}\n` });
      return withCache;
    },
  };
}

/** Takes tickets of the KDC and nothing else. */
export async function startKerberosSquid(
  scratch: Scratch,
  plan: SignInProxyPlan,
  kdc: Kdc,
): Promise<SignInProxy> {
  const keytab = scratch.path('proxy.keytab');
  const helper = `/usr/lib/squid/negotiate_kerberos_auth -k ${keytab} -s HTTP/${proxyHost}@${realm}`;
  const signIn = [
    `auth_param negotiate program ${helper}`,
    'auth_param negotiate children 5 startup=1 idle=1',
  ];
  const env = await kdc.ticket('alice.ccache');
  return squid(scratch, plan, { name: 'squid-kerberos', signIn, squidEnv: kdc.env, env });
}

/** Another program than squid, which knows Basic only. */
export async function startTinyproxy(scratch: Scratch, plan: SignInProxyPlan): Promise<SignInProxy> {
  const port = await freePort();
  const [config, log] = [scratch.path('tinyproxy.conf'), scratch.path('tinyproxy.log')];
  // It looks names up as the system does.
  const files = join('/etc/netns', scratch.namespace!);
  mkdirSync(files, { recursive: true });
  writeFileSync(join(files, 'hosts'), '127.0.0.1 localhost gw.example\n');
  scratch.onEnd(async () => void (await run(['rm', '-r', files])));
  writeFileSync(
    config,
    `Port ${port}
Listen ${plan.address}
Timeout 600
LogFile "${log}"
LogLevel Connect
BasicAuth alice correct-horse
ConnectPort ${plan.allowedPort}
`,
  );
  await start(scratch, [findProgram('tinyproxy')!, '-d', '-c', config], { port });
  return {
    port,
    url: `http://${proxyHost}:${port}`,
    env: inEnvironment('alice', 'correct-horse'),
    accessLog: () => readFileSync(log, 'utf8'),
  };
}

const kerberosVersion = '7.0.0';

/**
 * The folder of the npm package `kerberos`, made once. Its own installation fetches a binary from elsewhere; this
 * compiles its sources, which the Node-API lets run on every Node.
 */
async function kerberosPackage(): Promise<string> {
  const folder = join(packageDirectory, 'node_modules/.kerberos', kerberosVersion);
  const modules = join(folder, 'node_modules');
  const binary = join(modules, 'kerberos/build/Release/kerberos.node');
  if (existsSync(binary)) return join(modules, 'kerberos');
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true }));
  const flags = ['--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  const packages = [`kerberos@${kerberosVersion}`, 'node-api-headers'];
  await output(['npm', 'install', ...flags, ...packages], { cwd: folder, timeoutMs: 120_000 });
  mkdirSync(dirname(binary), { recursive: true });
  const sources = ['kerberos.cc', 'unix/base64.cc', 'unix/kerberos_gss.cc', 'unix/kerberos_unix.cc'];
  const flagsOfCompiler =
    '-shared -fPIC -O1 -std=c++20 -w -DKERBEROS_USE_RTLD=1 -DNODE_GYP_MODULE_NAME=kerberos';
  const headers = ['node-api-headers/include', 'node-addon-api'].map((name) => `-I${join(modules, name)}`);
  const files = sources.map((name) => join(modules, 'kerberos/src', name));
  const compile = ['g++', ...flagsOfCompiler.split(' '), ...headers, ...files, '-o', binary, '-ldl'];
  await output(compile, { timeoutMs: 180_000 });
  return join(modules, 'kerberos');
}

/** A copy of the client beside which its user has installed the package. */
export async function clientWithKerberos(scratch: Scratch): Promise<string> {
  const folder = scratch.path('with-kerberos');
  mkdirSync(join(folder, 'node_modules'), { recursive: true });
  cpSync(join(packageDirectory, clientBundle), join(folder, 'postern.cjs'));
  symlinkSync(await kerberosPackage(), join(folder, 'node_modules/kerberos'));
  return join(folder, 'postern.cjs');
}
