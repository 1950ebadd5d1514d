import { X509Certificate, createPrivateKey } from 'node:crypto';
import { access, constants, readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';
import { loadKeyFile } from '../auth/gateway-key.ts';
import { keysFromFile } from '../auth/jwt/jwks-loaders.ts';
import type { Config } from '../config/config.ts';

/** Finds likely mistakes in a valid configuration, and files that the gateway could not use now; one line each. */
export async function findWarnings(config: Config): Promise<readonly string[]> {
  const found = await Promise.all([
    problemsOf(`keyFile ${config.keyFile}`, () => checkKeyFile(config.keyFile)),
    problemsOf('tls', () => checkTls(config)),
    problemsOf(`audit.file ${config.audit.file}`, () => checkWritable(config.audit.file)),
    problemsOf(`store.file ${config.store.file}`, () => checkWritable(config.store.file)),
    problemsOf(`control ${config.control.path}`, () => access(dirname(config.control.path), constants.W_OK)),
    ...config.issuers.map(({ issuer, keys }) =>
      problemsOf(
        `the keys of ${issuer}`,
        async () => keys.kind === 'file' && (await keysFromFile(keys.file)()),
      ),
    ),
  ]);
  return [...found.flat(), ...exposureWarnings(config), ...cpuWarnings(config), ...policyWarnings(config)];
}

/** The first line of the error that `look` throws, or nothing. */
async function problemsOf(what: string, look: () => Promise<unknown>): Promise<readonly string[]> {
  try {
    await look();
    return [];
  } catch (error) {
    return [`${what}: ${(error as Error).message.split('\n')[0]}`];
  }
}

async function checkKeyFile(file: string): Promise<void> {
  if (await loadKeyFile(file)) return;
  await access(dirname(file), constants.W_OK);
}

async function checkTls({ tls }: Config): Promise<void> {
  if (!tls) return;
  const certificate = new X509Certificate(await readFile(tls.certFile));
  const key = createPrivateKey(await readFile(tls.keyFile));
  if (!certificate.checkPrivateKey(key))
    throw new Error('tls.keyFile is not the key of the certificate in tls.certFile');
  if (Date.parse(certificate.validTo) < Date.now()) throw new Error('the certificate has expired');
}

async function checkWritable(file: string): Promise<void> {
  try {
    await access(file, constants.W_OK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    await access(dirname(file), constants.W_OK);
  }
}

function exposureWarnings({ listen, admin, tls, trustedProxies }: Config): string[] {
  const warnings: string[] = [];
  if ((listen.kind === 'unix' || !isOpen(listen.host)) && !tls && trustedProxies.length === 0) {
    warnings.push(
      'trustedProxies: empty, so that all clients behind the web proxy count as one address; list the proxy',
    );
  }
  if (listen.kind === 'tcp' && isOpen(listen.host) && !tls) {
    warnings.push(
      'listen: other machines can reach this address, and it has no tls; put a web proxy with TLS in front of it',
    );
  }
  if (admin.kind === 'tcp' && isOpen(admin.host)) {
    warnings.push('admin: other machines can reach this address, and it needs no token');
  }
  return warnings;
}

/** Warns about more workers than cores: they take turns, and each costs its memory. */
export function cpuWarnings({ workers }: Pick<Config, 'workers'>): string[] {
  const cores = availableParallelism();
  if (workers === 1 || workers <= cores) return [];
  return [
    `workers: ${workers} processes for ${cores} ${cores === 1 ? 'core' : 'cores'}; more than one for each core does not help`,
  ];
}

function isOpen(host: string): boolean {
  return !host.startsWith('127.') && host !== '::1';
}

function policyWarnings({ rules, issuers }: Config): string[] {
  if (rules.length === 0) return ['rules: empty, so that every tunnel is refused'];
  if (issuers.length === 0) return [];
  return rules
    .filter((rule) => rule.issuers.length === 0)
    .map((rule) => `${rule.name}: it names no issuers, so that a subject or group of any issuer matches`);
}
