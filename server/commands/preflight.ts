import { X509Certificate, createPrivateKey } from 'node:crypto';
import { access, constants, readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';
import { loadKeyFile } from '../auth/gateway-key.ts';
import { keysFromFile } from '../auth/jwt/jwks-loaders.ts';
import type { Config } from '../config/config.ts';

/** What is allowed and still likely to be a mistake, one line each; and files that the gateway could not use now. */
export async function findWarnings(config: Config): Promise<readonly string[]> {
  const found = await Promise.all([
    trouble(`keyFile ${config.keyFile}`, () => checkKeyFile(config.keyFile)),
    trouble('tls', () => checkTls(config)),
    trouble(`audit.file ${config.audit.file}`, () => checkWritable(config.audit.file)),
    trouble(`store.file ${config.store.file}`, () => checkWritable(config.store.file)),
    trouble(`control ${config.control.path}`, () => access(dirname(config.control.path), constants.W_OK)),
    ...config.issuers.map(({ issuer, keys }) =>
      trouble(`the keys of ${issuer}`, async () => keys.kind === 'file' && (await keysFromFile(keys.file)())),
    ),
  ]);
  return [...found.flat(), ...exposureWarnings(config), ...cpuWarnings(config), ...policyWarnings(config)];
}

/** The first line of what went wrong, or nothing. */
async function trouble(what: string, look: () => Promise<unknown>): Promise<readonly string[]> {
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
  if (!certificate.checkPrivateKey(key)) throw new Error('the key is not that of the certificate');
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
      'trustedProxies: empty, so that everyone who comes through the web proxy counts as one address; name the proxy',
    );
  }
  if (listen.kind === 'tcp' && isOpen(listen.host) && !tls) {
    warnings.push(
      'listen: other machines can reach this door, and it has no tls; put a web proxy with TLS before it',
    );
  }
  if (admin.kind === 'tcp' && isOpen(admin.host)) {
    warnings.push('admin: other machines can reach this door, and it asks for no token');
  }
  return warnings;
}

/** More workers than cores take turns, and each costs its memory. */
export function cpuWarnings({ workers }: Pick<Config, 'workers'>): string[] {
  const cores = availableParallelism();
  if (workers === 1 || workers <= cores) return [];
  return [
    `workers: ${workers} processes have ${cores} ${cores === 1 ? 'core' : 'cores'} here; one for each core is the most that helps`,
  ];
}

function isOpen(host: string): boolean {
  return !host.startsWith('127.') && host !== '::1';
}

function policyWarnings({ rules, issuers }: Config): string[] {
  if (rules.length === 0) return ['rules: there are none, so that every tunnel is refused'];
  if (issuers.length === 0) return [];
  return rules
    .filter((rule) => rule.issuers.length === 0)
    .map((rule) => `${rule.name}: it names no issuers, so a subject or group of any issuer will do`);
}
