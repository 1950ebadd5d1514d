import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { TunnelError } from '../../protocol/errors.ts';
import type { Explanation, Finding } from '../../diagnostics/finding.ts';
import { gatewayTarget } from '../http/gateway-url.ts';
import { toFailure } from '../errors/failure.ts';
import { certificateOf, inspectorIn } from './certificate.ts';
import { check, warning, failed, ok, skip } from './check.ts';
import type { ClientOutcome, ClientDoctorContext, EgressFacts } from './check.ts';

const proxyId = { check: 'proxy', title: 'proxy' };
const tlsId = { check: 'tls', title: 'TLS' };

/**
 * Whether the proxy lets us through, and whether the web server authenticates itself: one connection, made as tunnels
 * make theirs, and two findings, since a failure names its layer.
 */
export const tls = check({
  name: 'tls',
  title: 'TLS',
  needs: ['route', 'isReached'],
  limitMs: 12_000,
  async run({ route }, context, signal): Promise<ClientOutcome> {
    let socket: Socket;
    try {
      socket = await context.egress.connect(gatewayTarget(context.settings.gateway), signal);
    } catch (error) {
      return notThrough(route, context, toFailure(error));
    }
    try {
      return { findings: [...proxyPasses(route), secured(socket, context)], found: { isConnected: true } };
    } finally {
      socket.destroy();
    }
  },
});

function proxyPasses({ proxy, hasOthers }: EgressFacts): Finding[] {
  if (proxy === undefined) return [];
  const through = hasOthers ? 'one of the routes' : proxy;
  return [ok(proxyId, `${through} leads to the gateway`)];
}

function secured(socket: Socket, { settings }: ClientDoctorContext): Finding {
  const { gateway, caFile } = settings;
  if (!(socket instanceof TLSSocket)) return skip(tlsId, 'the gateway is on this machine, and has no TLS');
  const facts = certificateOf(socket);
  if (facts === undefined) return ok(tlsId, `the connection to ${gateway.host} is encrypted`);
  const { issuer, leftMs, lifetimeMs, isPublic } = facts;
  const until = `${leftMs < 2 * dayMs ? `${Math.floor(leftMs / hourMs)} hours` : `${Math.floor(leftMs / dayMs)} days`} left`;
  if (!isPublic && inspectorIn(issuer)) {
    const words = {
      meaning:
        'a proxy of this network decrypts the traffic, inspects it, and encrypts it again. This machine trusts it. It cannot read SSH, but it can block some entries.',
      advice:
        'nothing, as long as an entry works below. Otherwise ask to have the gateway exempted from inspection.',
    };
    return warning(tlsId, `"${issuer}" has issued the certificate of ${gateway.hostname}`, words);
  }
  if (leftMs < lifetimeMs * soon) {
    const what = `the certificate of ${gateway.hostname} expires soon: ${until}`;
    return warning(tlsId, what, {
      meaning: 'once it has expired, no client can connect.',
      advice: 'tell the operators of the gateway.',
    });
  }
  const private_ = caFile === undefined ? '' : `, trusted because of ${caFile}`;
  return ok(tlsId, `the certificate is valid: issued by "${issuer}"${isPublic ? '' : private_}, ${until}`);
}

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
/** The share of its lifetime that is left when renewal is overdue: it is due at a third. */
const soon = 0.15;

/** The outcome of a failed connection: the layers before the one that failed work. */
function notThrough(route: EgressFacts, context: ClientDoctorContext, failure: TunnelError): ClientOutcome {
  const { layer } = failure.facts;
  if (layer === 'tls')
    return { findings: [...proxyPasses(route), failed(tlsId, failure, tlsWords(failure, context))] };
  const id = route.proxy === undefined ? tlsId : proxyId;
  const words = layer === 'proxy' ? proxyWords(failure, context) : silentWords;
  const rest = id === tlsId ? [] : [skip(tlsId, 'the proxy has to work first')];
  return { findings: [failed(id, failure, words), ...rest] };
}

const silentWords: Explanation = {
  meaning:
    'the connection is open, but the other side does not answer: it is overloaded or stuck, or an intermediary blocks encrypted connections.',
  advice:
    'try again in a minute; then ask your network administrators, or tell the operators of the gateway.',
};

function proxyWords(failure: TunnelError, { settings }: ClientDoctorContext): Explanation {
  const { host } = settings.gateway;
  if (failure.code === 'PROXY_SIGN_IN') {
    return {
      meaning:
        'the proxy requires a sign-in before it lets anything out, and you have not signed in to it yet.',
      ...(/did not accept/.test(failure.message)
        ? {
            advice:
              'the user name or the password is wrong: check them in a browser. Special characters are percent-encoded (@ is %40).',
          }
        : {}),
    };
  }
  const [, status = ''] = /answered (\d{3})\b/.exec(failure.message) ?? [];
  if (status === '403' || status === '405') {
    return {
      meaning: `the proxy is up, but forbids connections to ${host}.`,
      advice: `ask your network administrators to allow CONNECT to ${host}.`,
    };
  }
  if (status.startsWith('5')) {
    return {
      meaning:
        'the proxy accepts the request, but cannot reach the gateway itself: the name does not resolve there, or a firewall behind the proxy blocks it.',
      advice: `check the gateway URL; then ask your network administrators why the proxy does not reach ${host}.`,
    };
  }
  return {
    meaning: 'the proxy does not support what Postern needs.',
    advice: `ask your network administrators to allow CONNECT to ${host}.`,
  };
}

const untrusted = /SELF_SIGNED|UNABLE_TO_GET_ISSUER|UNABLE_TO_VERIFY|CERT_UNTRUSTED/;

function tlsWords(failure: TunnelError, { settings }: ClientDoctorContext): Explanation {
  const { code = '' } = (failure.cause ?? {}) as NodeJS.ErrnoException;
  const { gateway } = settings;
  if (untrusted.test(code)) {
    const [, issuer] = /issued by "([^"]*)"/.exec(failure.message) ?? [];
    const isInspector = issuer !== undefined && inspectorIn(issuer);
    return {
      meaning: isInspector
        ? `a proxy of this network ("${issuer}") decrypts and inspects the traffic. This machine does not trust it.`
        : `either the gateway's certificate was issued by your company's own authority, or an intermediary decrypts the traffic and presents a certificate of its own (interception).`,
      advice: `if "${issuer ?? 'the issuer'}" is your company: get its CA certificate as a PEM file from your IT department, and run`,
      lines: ['postern setup --ca-file /path/to/company-ca.pem'],
    };
  }
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID') {
    return {
      meaning: `the certificate has expired, or the clock of this machine is wrong: it says ${new Date().toISOString()}.`,
      advice: 'set the clock if it is wrong; if it is right, tell the operators of the gateway.',
    };
  }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return {
      meaning: `the server that answers is not ${gateway.hostname}, or does not prove it: another web server at this address, or a captive portal.`,
      advice: 'check the gateway URL; in a hotel or guest network, open a browser first and sign in there.',
    };
  }
  if (/WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|does not speak TLS/.test(`${code} ${failure.message}`)) {
    return {
      meaning: `the program on port ${gatewayTarget(gateway).port} is not a web server with https.`,
      advice: 'check the port of the gateway URL.',
    };
  }
  return {
    meaning:
      'the web server, or an intermediary, broke off the connection before it was encrypted. Some firewalls do that for names that they do not allow.',
    advice: `open ${gateway.origin} in a browser on this machine; if that fails too, ask your network administrators.`,
  };
}
