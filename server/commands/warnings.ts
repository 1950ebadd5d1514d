import { keysFromFile } from '../auth/jwt/jwks-loaders.ts';
import type { Config } from '../config/config.ts';
import { certificateEnd } from '../http/certificate.ts';
import { cpuWarnings } from './preflight.ts';

/** Warnings about settings that are allowed and still likely to be a mistake, and about files that are needed later; one line each. */
export async function findWarnings(config: Config): Promise<readonly string[]> {
  const keys = await Promise.all(config.issuers.map(issuerKeyWarnings));
  return [
    ...keys.flat(),
    ...certificateWarnings(config),
    ...exposureWarnings(config),
    ...cpuWarnings(config),
    ...policyWarnings(config),
  ];
}

/** The gateway starts without them, and refuses the tokens of that issuer. */
async function issuerKeyWarnings({ issuer, keys }: Config['issuers'][number]): Promise<readonly string[]> {
  if (keys.kind !== 'file') return [];
  try {
    await keysFromFile(keys.file)();
    return [];
  } catch (error) {
    return [`the keys of ${issuer}: ${(error as Error).message.split('\n')[0]}`];
  }
}

function certificateWarnings({ tls }: Config): readonly string[] {
  if (!tls) return [];
  try {
    return certificateEnd(tls) < Date.now() ? [`tls: the certificate in ${tls.certFile} has expired`] : [];
  } catch {
    // It is reported as a problem.
    return [];
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
