import { X509Certificate } from 'node:crypto';
import { rootCertificates } from 'node:tls';
import type { DetailedPeerCertificate, PeerCertificate, TLSSocket } from 'node:tls';
import { printable } from '../os/terminal.ts';

/** Facts about a certificate. */
export interface CertificateFacts {
  readonly issuer: string;
  /** Time until it expires. */
  readonly leftMs: number;
  readonly lifetimeMs: number;
  /** Its root is one that every browser trusts. Otherwise a company, or its proxy, has issued it. */
  readonly isPublic: boolean;
}

/** Reads the certificate of a connection whose handshake is over; undefined for one without. */
export function certificateOf(socket: TLSSocket): CertificateFacts | undefined {
  const leaf = socket.getPeerCertificate(true);
  if (!(leaf as Partial<DetailedPeerCertificate>).valid_to) return undefined;
  return {
    issuer: nameOf(leaf.issuer),
    leftMs: Date.parse(leaf.valid_to) - Date.now(),
    lifetimeMs: Date.parse(leaf.valid_to) - Date.parse(leaf.valid_from),
    isPublic: isPublicRoot(lastOf(leaf).fingerprint256),
  };
}

/** The end of the chain; the root has itself as its issuer. */
function lastOf(leaf: DetailedPeerCertificate): DetailedPeerCertificate {
  let last = leaf;
  for (let depth = 0; depth < 10; depth++) {
    const next = last.issuerCertificate as DetailedPeerCertificate | undefined;
    if (next === undefined || next.fingerprint256 === last.fingerprint256) break;
    last = next;
  }
  return last;
}

function isPublicRoot(fingerprint: string): boolean {
  return rootCertificates.some((pem) => new X509Certificate(pem).fingerprint256 === fingerprint);
}

function nameOf({ O, CN }: PeerCertificate['issuer']): string {
  return printable([O ?? CN ?? 'unnamed issuer'].flat()[0]!).slice(0, 100);
}

/** Makers of proxies that inspect TLS, by their names in certificates. */
const inspectors =
  /\b(?:zscaler|netskope|palo alto|forti(?:net|gate|proxy)|blue ?coat|symantec proxy|proxysg|mcafee|skyhigh|trellix|sophos|check ?point|barracuda|cisco (?:umbrella|secure)|umbrella|websense|forcepoint|watchguard|sonicwall|smoothwall|iboss|menlo|squid|mitmproxy|burp|charles|fiddler|kaspersky|eset|avast|avg|bitdefender|norton)\b/i;

/** Whether this issuer is a product that inspects TLS. */
export function inspectorIn(issuer: string): boolean {
  return inspectors.test(issuer);
}
