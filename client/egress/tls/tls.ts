import { X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import { connect, createSecureContext, getCACertificates, rootCertificates } from 'node:tls';
import type { PeerCertificate, SecureContext, TLSSocket } from 'node:tls';
import { onAbort } from '../../../base/deadline.ts';
import { pemCertificates } from '../../../base/pem.ts';
import { isAddress } from '../../../protocol/target.ts';
import { ClientError } from '../../errors/failure.ts';
import type { FailureContext } from '../../errors/failure.ts';
import { readSmall, reason } from '../../os/files.ts';
import type { Egress } from '../egress.ts';
import { closedInHandshake, handshakeFailure, isNoTls, noTunnel, untrusted } from './handshake-failure.ts';
import { findAuthority, rootFingerprint } from './last-ca.ts';
import type { LastCaCache } from './last-ca.ts';

/** The trusted authorities: `undefined` means those of Node.js. */
export type Trust = readonly string[] | undefined;

/** Longer than a handshake takes over a satellite; without an answer until then, another connection is tried. */
const handshakeMs = 10_000;

const maxCaFileBytes = 4 * 1024 * 1024;

/** The authorities of Node.js and the certificates in `caFile`. Throws `CONFIG_INVALID`. */
export function loadTrust(caFile: string | undefined): Trust {
  return trustWith(readCaFile(caFile));
}

function trustWith(added: readonly string[]): Trust {
  return added.length === 0 ? undefined : [...usualAuthorities(), ...added];
}

function readCaFile(caFile: string | undefined): readonly string[] {
  if (caFile === undefined) return [];
  let text: string;
  try {
    text = readSmall(caFile, maxCaFileBytes).bytes.toString('latin1');
  } catch (cause) {
    throw new ClientError('CONFIG_INVALID', `cannot read the CA file ${caFile}: ${reason(cause)}`, { cause });
  }
  const added = pemCertificates(text);
  if (added.length === 0 || !added.every(isCertificate)) {
    throw new ClientError('CONFIG_INVALID', `the CA file ${caFile} contains no PEM certificates`);
  }
  return added;
}

/** `getCACertificates` exists since Node.js 22.15; before, NODE_EXTRA_CA_CERTS is ignored when there are other files. */
function usualAuthorities(): readonly string[] {
  return authoritiesOfNode() ?? rootCertificates;
}

/** The authorities that Node.js trusts as it was started; undefined where it does not list them. */
function authoritiesOfNode(): readonly string[] | undefined {
  return (getCACertificates as typeof getCACertificates | undefined)?.('default');
}

/** The authorities that this system trusts besides those of Node.js; companies install that of their inspecting proxy there. */
export interface SystemTrust {
  /** Whether they have been needed in this network before. */
  readonly isNeeded: boolean;
  keepNeeded(): void;
  /** Never throws; empty where they cannot be read. */
  load(signal: AbortSignal): Promise<readonly string[]>;
}

/** Sources of trust besides the authorities of Node.js. */
export interface TrustSources {
  readonly caFile?: string;
  readonly system?: SystemTrust;
  readonly lastCas?: LastCaCache;
}

/** `egress` with TLS to the gateway on top. */
export function secureEgress(egress: Egress, sources: TrustSources): Egress {
  return {
    name: egress.name,
    connect: (gateway, signal) =>
      openSecure(() => egress.connect(gateway, signal), gateway.host, { ...sources, signal }),
  };
}

/** The proxy of a connection that, by its response, leads to the gateway now. */
export const tunnelledBy = new WeakMap<Socket, string>();

/**
 * Opens TLS to `host` on a connection from `open`. When Node.js does not trust the issuer of the certificate, it connects
 * a second time with the system's authorities as well, and remembers it if that helps. Throws as `open` and `secure`.
 */
export async function openSecure(
  open: () => Promise<Socket>,
  host: string,
  { caFile, system, lastCas, signal }: TrustSources & { readonly signal: AbortSignal },
): Promise<TLSSocket> {
  const added = readCaFile(caFile);
  const attempt = async (trusted: () => Trust): Promise<TLSSocket> => {
    const opening = open();
    opening.catch(() => {});
    // Takes its time, while the packets travel.
    const trust = trusted();
    contextFor(trust);
    return secure(await opening, host, { trust, signal });
  };
  const last = lastCas && lastCaIn(lastCas.recall(host), added);
  if (last !== undefined) {
    try {
      return await attempt(() => [last]);
    } catch (error) {
      if (!isPossiblyNewIssuer(error)) throw error;
    }
  }
  const isFirst = system === undefined || !system.isNeeded;
  if (isFirst) {
    try {
      const tls = await attempt(() => trustWith(added));
      if (lastCas) keepLastCa(lastCas, tls, { host, added });
      return tls;
    } catch (error) {
      if (system === undefined || !isDistrust(error)) throw error;
    }
  }
  const more = await system.load(signal);
  const tls = await attempt(() => [...usualAuthorities(), ...added, ...more]);
  if (isFirst) system.keepNeeded();
  return tls;
}

/** The last authority, if it is trusted: loading one certificate instead of all saves ten milliseconds and two megabytes. */
function lastCaIn(fingerprint: string | undefined, added: readonly string[]): string | undefined {
  if (fingerprint === undefined) return undefined;
  return findAuthority(fingerprint, added) ?? findAuthority(fingerprint, authoritiesOfNode() ?? []);
}

function keepLastCa(
  lastCas: LastCaCache,
  tls: TLSSocket,
  { host, added }: { readonly host: string; readonly added: readonly string[] },
): void {
  const fingerprint = rootFingerprint(tls);
  if (fingerprint !== undefined && lastCaIn(fingerprint, added)) lastCas.keep(host, fingerprint);
}

/**
 * Starts TLS on `socket` as a client of `host` and checks its certificate. Takes the socket over; the caller owns
 * the result, which has an `error` listener already. Throws `TLS_FAILED`, or `GATEWAY_TIMEOUT` when `signal` aborts.
 */
export function secure(
  socket: Socket,
  host: string,
  options: { readonly trust: Trust; readonly signal: AbortSignal },
): Promise<TLSSocket> {
  const { trust, signal } = options;
  return new Promise((resolve, reject) => {
    let seen: PeerCertificate | undefined;
    const tls = connect({
      socket,
      host,
      ...(isAddress(host) ? {} : { servername: host }),
      ALPNProtocols: ['http/1.1'],
      // Explicit, or NODE_TLS_REJECT_UNAUTHORIZED could turn it off.
      rejectUnauthorized: true,
      secureContext: contextFor(trust),
    });
    const failWith = (context: FailureContext): void => {
      const what = `${host} did not finish the handshake in time`;
      tls.destroy(new ClientError('GATEWAY_TIMEOUT', what, context));
    };
    const timer = setTimeout(() => failWith({ interruption: { how: 'silent' } }), handshakeMs);
    const stopWaiting = onAbort(signal, () => failWith({}));
    const removeListener = (): void => {
      clearTimeout(timer);
      stopWaiting();
    };
    // Before Node.js's own listener, which closes the connection when it does not trust the certificate.
    tls.prependListener('secure', () => (seen = tls.getPeerCertificate()));
    tls.once('secureConnect', () => {
      removeListener();
      resolve(tls);
    });
    tls.on('error', (error) => {
      removeListener();
      socket.destroy();
      const proxy = tunnelledBy.get(socket);
      if (error instanceof ClientError) reject(error);
      else if (proxy !== undefined && isNoTls(error)) reject(noTunnel(proxy, error));
      else reject(handshakeFailure(error, host, seen));
    });
    tls.once('close', () => {
      removeListener();
      reject(closedInHandshake(host));
    });
  });
}

/** Whether a handshake failed because the issuer of the certificate is not trusted. */
function isDistrust(error: unknown): boolean {
  const { cause } = error as ClientError;
  return untrusted.has((cause as NodeJS.ErrnoException | undefined)?.code ?? '');
}

/** Whether the failure may only mean that the server has a certificate of another issuer now. */
function isPossiblyNewIssuer(error: unknown): boolean {
  const { cause } = error as ClientError;
  return isDistrust(error) || (cause as NodeJS.ErrnoException | undefined)?.code === 'CERT_HAS_EXPIRED';
}

let lastContext: { readonly trust: Trust; readonly context: SecureContext } | undefined;

/** The context for `trust`, shared by the tunnels of a process: loading all certificates takes tens of milliseconds and a megabyte. */
function contextFor(trust: Trust): SecureContext {
  const before = lastContext;
  if (before !== undefined && isSame(before.trust, trust)) return before.context;
  const context = createSecureContext(trust === undefined ? {} : { ca: [...trust] });
  lastContext = { trust, context };
  return context;
}

function isSame(before: Trust, trust: Trust): boolean {
  if (before === undefined || trust === undefined) return before === trust;
  return before.length === trust.length && before.every((pem, at) => pem === trust[at]);
}

/** Whether this text is a valid certificate. */
export function isCertificate(pem: string): boolean {
  try {
    return new X509Certificate(pem).raw.length > 0;
  } catch {
    return false;
  }
}
