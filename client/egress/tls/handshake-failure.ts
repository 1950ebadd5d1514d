import type { PeerCertificate } from 'node:tls';
import { ClientError } from '../../errors/failure.ts';
import { isLoss } from '../../http/exchange.ts';
import { printable } from '../../os/terminal.ts';

/** Errors of a certificate whose issuer is not trusted. */
export const untrusted = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'CERT_UNTRUSTED',
]);

/** The error of a handshake with `host` that failed; `seen` is the certificate that the server presented. */
export function handshakeFailure(
  cause: NodeJS.ErrnoException,
  host: string,
  seen: PeerCertificate | undefined,
): ClientError {
  const { code = '' } = cause;
  const issuer = nameOf(seen?.issuer);
  if (untrusted.has(code)) {
    const by = issuer === undefined ? 'someone' : `"${issuer}"`;
    return new ClientError(
      'TLS_FAILED',
      `the certificate of ${host} is issued by ${by}, trusted neither by Node.js nor by this system (${code}): an intermediary may be intercepting the connection`,
      {
        cause,
        hint: 'postern setup --ca-file /path/to/company-ca.pem',
      },
    );
  }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    const by = issuer === undefined ? '' : `, issued by "${issuer}"`;
    return new ClientError('TLS_FAILED', `${host} presented a certificate for other names${by}`, { cause });
  }
  if (code === 'CERT_HAS_EXPIRED') {
    return new ClientError(
      'TLS_FAILED',
      `the certificate of ${host} has expired, or the clock here is wrong`,
      {
        cause,
      },
    );
  }
  if (isNoTls(cause)) {
    return new ClientError('TLS_FAILED', `${host} does not speak TLS on this port`, { cause });
  }
  if (isLoss(cause)) return closedInHandshake(host, cause);
  return new ClientError(
    'TLS_FAILED',
    `the handshake with ${host} failed: ${code || printable(cause.message)}`,
    {
      cause,
    },
  );
}

/** The error of a handshake in which the connection ended. */
export function closedInHandshake(host: string, cause?: Error): ClientError {
  return new ClientError('TLS_FAILED', `${host} closed the connection during the handshake`, {
    ...(cause && { cause }),
    interruption: { how: 'lost' },
  });
}

/** Whether the peer sent something other than TLS. */
export function isNoTls({ code }: NodeJS.ErrnoException): boolean {
  return code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG';
}

/** The error for a proxy that answers itself. */
export function noTunnel(proxy: string, cause: Error): ClientError {
  const what = 'reported an open tunnel, but then sent something other than TLS, perhaps a page of its own';
  return new ClientError('PROXY_REFUSED', `${proxy} ${what}`, { cause });
}

function nameOf(name: PeerCertificate['issuer'] | undefined): string | undefined {
  const text: unknown = name?.O ?? name?.CN;
  // An attribute that occurs twice is a list.
  const first: unknown = Array.isArray(text) ? text[0] : text;
  return typeof first === 'string' ? printable(first).slice(0, 100) : undefined;
}
