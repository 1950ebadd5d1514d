import { lookup } from 'node:dns/promises';
import { connect } from 'node:net';
import { connect as connectTls, rootCertificates } from 'node:tls';
import type { TLSSocket } from 'node:tls';
import { onAbort } from '../../base/deadline.ts';
import { isAddress } from '../../protocol/target.ts';
import { finding, skip } from './check.ts';
import type { GatewayCheck, GatewayOutcome, GatewayDoctorContext } from './check.ts';

/** Whether the public name leads anywhere. */
export const name: GatewayCheck = {
  name: 'name',
  title: 'name',
  needs: [],
  limitMs: 8000,
  async run(_found, { url }) {
    const host = hostOf(url);
    if (isAddress(host))
      return {
        ...finding(name, 'ok', { what: `${host} is an address, no name` }),
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
        what: `the name ${host} of publicUrl cannot be looked up here (${code})`,
        meaning: 'nobody finds the gateway by this name, or only people elsewhere do.',
        advice: 'enter it into your name service, or correct publicUrl.',
      });
    }
  },
};

/** Whether somebody listens there. */
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
      what: `port ${port} does not take connections (${problem})`,
      meaning:
        problem === 'ECONNREFUSED'
          ? 'the web server is not running, or listens on another port or address.'
          : 'a firewall is before it, or the address is another machine.',
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

/** Whether the certificate is good, and for how long. */
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
        ...finding(tls, 'ok', { what: `the certificate is good, ${left} left (${protocol})` }),
        found,
      };
    return {
      ...finding(tls, 'warning', {
        what: `the certificate ends soon: ${left} left`,
        meaning: 'its renewal does not work, or nobody has thought of it. When it has ended, nobody gets in.',
        advice: 'renew it, and reload the web server.',
      }),
      found,
    };
  },
};

const dayMs = 24 * 3_600_000;
/** What is left, of the whole, when a renewal is overdue: it is due at a third. */
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
  CERT_HAS_EXPIRED: 'the certificate has ended: nobody gets in.',
  CERT_NOT_YET_VALID: 'the certificate has not begun, or the clock of this machine is wrong.',
  ERR_TLS_CERT_ALTNAME_INVALID: 'the certificate is for other names than that of publicUrl.',
  ERR_SSL_WRONG_VERSION_NUMBER: 'what listens there does not speak TLS.',
  ERR_SSL_PACKET_LENGTH_TOO_LONG: 'what listens there does not speak TLS.',
};

const untrusted =
  'it is issued by an authority that this machine does not know, or the web server does not send the certificates between. Clients fail the same way, unless they are told of the authority.';

function badCertificate({ url }: GatewayDoctorContext, error: NodeJS.ErrnoException): GatewayOutcome {
  const { code = error.message } = error;
  const isUnknown = /SELF_SIGNED|UNABLE_TO|CERT_UNTRUSTED/.test(code);
  return finding(tls, 'error', {
    what: `the certificate of ${hostOf(url)} is not good (${code})`,
    meaning: meanings[code] ?? (isUnknown ? untrusted : 'the handshake fails.'),
    advice: isUnknown
      ? 'give the web server the whole chain; for an authority of your own, name it here with --ca-file and to clients with'
      : 'put it right in the web server.',
    ...(isUnknown ? { lines: ['postern setup --ca-file FILE'] } : {}),
  });
}

function hostOf(url: URL): string {
  return url.hostname.replaceAll(/^\[|\]$/g, '');
}

function portOf(url: URL): number {
  return Number(url.port || (url.protocol === 'https:' ? 443 : 80));
}
