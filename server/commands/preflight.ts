import { X509Certificate, createPrivateKey } from 'node:crypto';
import { access, constants, readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';
import { loadKeyFile } from '../auth/gateway-key.ts';
import { keysFromFile } from '../auth/jwt/jwks-loaders.ts';
import type { Config } from '../config/config.ts';

/** Warnings about settings that are allowed and still likely to be a mistake, and about files that the gateway could not use now; one line each. */
export async function findWarnings(config: Config): Promise<readonly string[]> {
  const found = await Promise.all([
    errorOf(`keyFile ${config.keyFile}`, () => checkKeyFile(config.keyFile)),
    errorOf('tls', () => checkTls(config)),
    errorOf(`audit.file ${config.audit.file}`, () => checkWritable(config.audit.file)),
    errorOf(`store.file ${config.store.file}`, () => checkWritable(config.store.file)),
    errorOf(`control ${config.control.path}`, () => access(dirname(config.control.path), constants.W_OK)),
    ...config.issuers.map(({ issuer, keys }) =>
      errorOf(`the keys of ${issuer}`, async () => keys.kind === 'file' && (await keysFromFile(keys.file)())),
    ),
  ]);
  return [...found.flat(), ...exposureWarnings(config), ...cpuWarnings(config), ...policyWarnings(config)];
}

/** The first line of the error of `check`, or nothing. */
async function errorOf(what: string, check: () => Promise<unknown>): Promise<readonly string[]> {
  try {
    await check();
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
      'trustedProxies: empty, so all clients behind the web proxy count as one address; add the address of the proxy',
    );
  }
  if (listen.kind === 'tcp' && isOpen(listen.host) && !tls) {
    warnings.push(
      'listen: other machines can reach this address, and it has no tls; put a web proxy with TLS in front of it',
    );
  }
  if (admin.kind === 'tcp' && isOpen(admin.host)) {
    warnings.push('admin: other machines can reach this address, and it requires no token');
  }
  return warnings;
}

/** Workers beyond the number of cores share cores, and each costs its memory. */
export function cpuWarnings({ workers }: Pick<Config, 'workers'>): string[] {
  const cores = availableParallelism();
  if (workers === 1 || workers <= cores) return [];
  return [
    `workers: ${workers} processes share ${cores} ${cores === 1 ? 'core' : 'cores'} here; more than one for each core does not help`,
  ];
}

function isOpen(host: string): boolean {
  return !host.startsWith('127.') && host !== '::1';
}

function policyWarnings({ rules, issuers }: Config): string[] {
  if (rules.length === 0) return ['rules: there are none, so every tunnel is refused'];
  if (issuers.length === 0) return [];
  return rules
    .filter((rule) => rule.issuers.length === 0)
    .map((rule) => `${rule.name}: names no issuers, so it applies to subjects and groups of every issuer`);
}
