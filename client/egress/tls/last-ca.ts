import { createHash } from 'node:crypto';
import type { TLSSocket } from 'node:tls';

/**
 * Which authority vouched for a host in this network the last time, by the SHA-256 of its certificate. Says which of
 * those that are trusted anyway to load first, and never whom to trust.
 */
export interface LastCaCache {
  recall(host: string): string | undefined;
  keep(host: string, fingerprint: string): void;
}

/** The certificate with this fingerprint among `authorities`, in PEM. */
export function findAuthority(fingerprint: string, authorities: readonly string[]): string | undefined {
  return authorities.find((pem) => fingerprintOf(pem) === fingerprint);
}

function fingerprintOf(pem: string): string {
  const body = Buffer.from(pem.replace(/-----[^-]+-----/g, ''), 'base64');
  return createHash('sha256').update(body).digest('hex');
}

const maxChainLength = 20;

/** The fingerprint of the authority at the end of the peer's chain, where it has signed itself. */
export function rootFingerprint(tls: TLSSocket): string | undefined {
  let certificate = tls.getPeerCertificate(true);
  for (let depth = 0; depth < maxChainLength; depth++) {
    const issuer = certificate.issuerCertificate;
    if (issuer === certificate) return certificate.fingerprint256.replaceAll(':', '').toLowerCase();
    // Nothing is said about those above.
    if (issuer === undefined) return undefined;
    certificate = issuer;
  }
  return undefined;
}
