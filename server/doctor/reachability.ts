import { lookup } from 'node:dns/promises';
import { connect } from 'node:net';
import { connect as connectTls, rootCertificates } from 'node:tls';
import type { TLSSocket } from 'node:tls';
import { onAbort } from '../../base/deadline.ts';
import { isAddress } from '../../protocol/target.ts';
import { finding, skip } from './check.ts';
import type { GatewayCheck, GatewayOutcome, GatewayDoctorContext } from './check.ts';

/** Whether the public name resolves. */
export const name: GatewayCheck = {
  name: 'name',
  title: 'name',
  needs: [],
  limitMs: 8000,
  async run(_found, { url }) {
    const host = hostOf(url);
    if (isAddress(host))
      return {
        ...finding(name, 'ok', { what: `${host} is an address, not a name` }),
        found: { addresses: [host] },
      };
    try {
      const addresses = (await lookup(host, { all: true })).map(({ address }) => address);
      return {
        ...finding(name, 'ok', { what: `${host} is ${addresses.join(', ')}` }),
        found: { addresses },
      };
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      return finding(name, 'error', {
        what: `the name ${host} of publicUrl does not resolve here (${code})`,
        meaning: 'clients cannot resolve this name, or only clients outside this network can.',
        advice: 'add it to your DNS, or correct publicUrl.',
      });
    }
  },
};

/** Whether the port accepts connections. */
export const connection: GatewayCheck = {
  name: 'connection',
  title: 'connection',
  needs: ['addresses'],
  limitMs: 8000,
  async run(_found, { url }, signal) {
    const port = portOf(url);
    const problem = await reach(hostOf(url), port, signal);
    if (problem === undefined)
      return {
        ...finding(connection, 'ok', { what: `port ${port} answers` }),
        found: { isConnected: true },
      };
    return finding(connection, 'error', {
      what: `port ${port} does not accept connections (${problem})`,
      meaning:
        problem === 'ECONNREFUSED'
          ? 'the web server is not running, or listens on another port or address.'
          : 'a firewall blocks it, or the address belongs to another machine.',
      advice: 'start the web server, open the port, or correct publicUrl.',
    });
  },
};

function reach(host: string, port: number, signal: AbortSignal): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, signal });
    socket.once('connect', () => {
      resolve(undefined);
      socket.destroy();
    });
    socket.on('error', (error: NodeJS.ErrnoException) =>
      resolve(error.name === 'AbortError' ? 'ETIMEDOUT' : (error.code ?? error.message)),
    );
  });
}

/** Whether the certificate is valid, and for how long. */
export const tls: GatewayCheck = {
  name: 'tls',
  title: 'TLS',
  needs: ['isConnected'],
  limitMs: 8000,
  async run(_found, context, signal) {
    const found = { isSecure: true } as const;
    if (context.url.protocol !== 'https:') return { ...skip(tls, 'publicUrl has no TLS'), found };
    let socket: TLSSocket;
    try {
      socket = await handshake(context, signal);
    } catch (error) {
      return badCertificate(context, error as NodeJS.ErrnoException);
    }
    const { valid_to: end, valid_from: start } = socket.getPeerCertificate();
    const protocol = socket.getProtocol() ?? 'TLS';
    socket.destroy();
    const leftMs = Date.parse(end) - Date.now();
    const left =
      leftMs < 2 * dayMs ? `${Math.floor(leftMs / 3_600_000)} hours` : `${Math.floor(leftMs / dayMs)} days`;
    if (leftMs > soon * (Date.parse(end) - Date.parse(start)))
      return {
        ...finding(tls, 'ok', { what: `the certificate is valid, ${left} left (${protocol})` }),
        found,
      };
    return {
      ...finding(tls, 'warning', {
        what: `the certificate expires soon: ${left} left`,
        meaning:
          'it is not renewed automatically, or renewal fails. Once it has expired, no client can connect.',
        advice: 'renew it, and reload the web server.',
      }),
      found,
    };
  },
};

const dayMs = 24 * 3_600_000;
/** The share of its lifetime that is left when renewal is overdue: it is due at a third. */
const soon = 0.15;

function handshake({ url, authorities }: GatewayDoctorContext, signal: AbortSignal): Promise<TLSSocket> {
  const host = hostOf(url);
  return new Promise((resolve, reject) => {
    const socket = connectTls({
      host,
      port: portOf(url),
      ...(isAddress(host) ? {} : { servername: host }),
      ALPNProtocols: ['http/1.1'],
      ...(authorities.length > 0 ? { ca: [...rootCertificates, ...authorities] } : {}),
    });
    onAbort(signal, () => void socket.destroy(Object.assign(new Error('no answer'), { code: 'ETIMEDOUT' })));
    socket.once('secureConnect', () => resolve(socket));
    socket.on('error', reject);
    socket.once('close', () => reject(Object.assign(new Error('closed'), { code: 'ECONNRESET' })));
  });
}

const meanings: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'the certificate has expired: no client can connect.',
  CERT_NOT_YET_VALID: 'the certificate is not valid yet, or the clock of this machine is wrong.',
  ERR_TLS_CERT_ALTNAME_INVALID: 'the certificate is for other names than the one in publicUrl.',
  ERR_SSL_WRONG_VERSION_NUMBER: 'the program that listens there does not speak TLS.',
  ERR_SSL_PACKET_LENGTH_TOO_LONG: 'the program that listens there does not speak TLS.',
};

const untrusted =
  'it is issued by an authority that this machine does not trust, or the web server does not send the intermediate certificates. Clients fail the same way, unless they are set up to trust the authority.';

function badCertificate({ url }: GatewayDoctorContext, error: NodeJS.ErrnoException): GatewayOutcome {
  const { code = error.message } = error;
  const isUnknown = /SELF_SIGNED|UNABLE_TO|CERT_UNTRUSTED/.test(code);
  return finding(tls, 'error', {
    what: `the certificate of ${hostOf(url)} is not valid (${code})`,
    meaning: meanings[code] ?? (isUnknown ? untrusted : 'the handshake fails.'),
    advice: isUnknown
      ? 'configure the full chain in the web server; for an authority of your own, use --ca-file here, and on clients'
      : 'fix it in the web server.',
    ...(isUnknown ? { lines: ['postern setup --ca-file FILE'] } : {}),
  });
}

function hostOf(url: URL): string {
  return url.hostname.replaceAll(/^\[|\]$/g, '');
}

function portOf(url: URL): number {
  return Number(url.port || (url.protocol === 'https:' ? 443 : 80));
}
