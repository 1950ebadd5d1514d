import { createHash } from 'node:crypto';
import type { TLSSocket } from 'node:tls';

/**
 * The authority that issued a host's certificate in this network the last time, by the SHA-256 of its certificate. It
 * decides which of the trusted authorities is loaded first, and never which are trusted.
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
    // The chain is incomplete.
    if (issuer === undefined) return undefined;
    certificate = issuer;
  }
  return undefined;
}
