import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { TunnelError } from '../../protocol/errors.ts';
import type { Finding } from '../../diagnostics/finding.ts';
import { gatewayTarget } from '../http/gateway-url.ts';
import { toFailure } from '../errors/failure.ts';
import { certificateOf, inspectorIn } from './certificate.ts';
import { check, costly, failed, good, unchecked } from './check.ts';
import type { Outcome, DoctorContext, EgressFacts, Explanation } from './check.ts';

const proxySpeaker = { check: 'proxy', title: 'proxy' };
const tlsSpeaker = { check: 'tls', title: 'TLS' };

/**
 * Whether the proxy lets us through, and whether the web server shows who it is: one connection, made as tunnels make
 * theirs, and two findings, since a failure tells its layer.
 */
export const tls = check({
  name: 'tls',
  title: 'TLS',
  needs: ['way', 'isReached'],
  limitMs: 12_000,
  async run({ way }, place, signal): Promise<Outcome> {
    let socket: Socket;
    try {
      socket = await place.egress.connect(gatewayTarget(place.settings.gateway), signal);
    } catch (error) {
      return notThrough(way, place, toFailure(error));
    }
    try {
      return { findings: [...proxyPasses(way), secured(socket, place)], found: { isConnected: true } };
    } finally {
      socket.destroy();
    }
  },
});

function proxyPasses({ proxy, hasOthers }: EgressFacts): Finding[] {
  if (proxy === undefined) return [];
  const who = hasOthers ? 'one of the ways out' : proxy;
  return [good(proxySpeaker, `${who} leads through to the gateway`)];
}

function secured(socket: Socket, { settings }: DoctorContext): Finding {
  const { gateway, caFile } = settings;
  if (!(socket instanceof TLSSocket))
    return unchecked(tlsSpeaker, 'the gateway is on this machine, and speaks without');
  const facts = certificateOf(socket);
  if (facts === undefined) return good(tlsSpeaker, `the connection to ${gateway.host} is encrypted`);
  const { issuer, leftMs, lifetimeMs, isPublic } = facts;
  const until = `${leftMs < 2 * dayMs ? `${Math.floor(leftMs / hourMs)} hours` : `${Math.floor(leftMs / dayMs)} days`} left`;
  if (!isPublic && inspectorIn(issuer)) {
    const words = {
      meaning:
        'a proxy of this network opens the encryption, looks inside, and encrypts again. This machine trusts it. SSH stays closed to it, but it may not let every way in pass.',
      advice:
        'nothing, as long as a way in works below. Otherwise ask to have the gateway exempted from inspection.',
    };
    return costly(tlsSpeaker, `"${issuer}" has issued the certificate of ${gateway.hostname}`, words);
  }
  if (leftMs < lifetimeMs * soon) {
    const what = `the certificate of ${gateway.hostname} ends soon: ${until}`;
    return costly(tlsSpeaker, what, {
      meaning: 'when it has ended, nobody gets in any more.',
      advice: 'tell those who run the gateway.',
    });
  }
  const private_ = caFile === undefined ? '' : `, trusted because of ${caFile}`;
  return good(
    tlsSpeaker,
    `the certificate is good: issued by "${issuer}"${isPublic ? '' : private_}, ${until}`,
  );
}

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
/** What is left, of the whole, when something has gone wrong with the renewal: it is due at a third. */
const soon = 0.15;

/** The layers before the one that failed are good. */
function notThrough(way: EgressFacts, place: DoctorContext, failure: TunnelError): Outcome {
  const { layer } = failure.facts;
  if (layer === 'tls')
    return { findings: [...proxyPasses(way), failed(tlsSpeaker, failure, tlsWords(failure, place))] };
  const speaker = way.proxy === undefined ? tlsSpeaker : proxySpeaker;
  const words = layer === 'proxy' ? proxyWords(failure, place) : silentWords;
  const rest = speaker === tlsSpeaker ? [] : [unchecked(tlsSpeaker, 'the proxy comes first')];
  return { findings: [failed(speaker, failure, words), ...rest] };
}

const silentWords: Explanation = {
  meaning:
    'the connection stands, but the other side does not go on: it is overloaded or stuck, or something on the way swallows encrypted connections.',
  advice: 'try again in a minute; then ask your network people, or tell those who run the gateway.',
};

function proxyWords(failure: TunnelError, { settings }: DoctorContext): Explanation {
  const { host } = settings.gateway;
  if (failure.code === 'PROXY_SIGN_IN') {
    return {
      meaning: 'the proxy wants to know who you are before it lets anything out, and does not know it yet.',
      ...(/did not accept/.test(failure.message)
        ? {
            advice:
              'the name or the password is wrong: check them, as you would write them in a browser. Special characters are percent-encoded (@ is %40).',
          }
        : {}),
    };
  }
  const [, status = ''] = /answered (\d{3})\b/.exec(failure.message) ?? [];
  if (status === '403' || status === '405') {
    return {
      meaning: `the proxy is there and forbids connections to ${host}.`,
      advice: `ask your network people to allow CONNECT to ${host}.`,
    };
  }
  if (status.startsWith('5')) {
    return {
      meaning:
        'the proxy let us ask, but cannot reach the gateway itself: its name is not known there, or a firewall is behind the proxy.',
      advice: `check the gateway URL; then ask your network people why their proxy does not reach ${host}.`,
    };
  }
  return {
    meaning: 'the proxy does not do what we need of it.',
    advice: `ask your network people to allow CONNECT to ${host}.`,
  };
}

const untrusted = /SELF_SIGNED|UNABLE_TO_GET_ISSUER|UNABLE_TO_VERIFY|CERT_UNTRUSTED/;

function tlsWords(failure: TunnelError, { settings }: DoctorContext): Explanation {
  const { code = '' } = (failure.cause ?? {}) as NodeJS.ErrnoException;
  const { gateway } = settings;
  if (untrusted.test(code)) {
    const [, issuer] = /issued by "([^"]*)"/.exec(failure.message) ?? [];
    const isInspector = issuer !== undefined && inspectorIn(issuer);
    return {
      meaning: isInspector
        ? `a proxy of this network ("${issuer}") opens the encryption and looks inside. This machine does not trust it.`
        : `either the gateway's certificate comes from your company's own authority, or something on the way opens the encryption and shows a certificate of its own (interception).`,
      advice: `if "${issuer ?? 'the issuer'}" is your company: get its CA certificate as a PEM file from your IT people, and`,
      lines: ['postern setup --ca-file /path/to/company-ca.pem'],
    };
  }
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID') {
    return {
      meaning: `the certificate is out of date, or the clock of this machine is wrong: it says ${new Date().toISOString()}.`,
      advice: 'set the clock if it is wrong; if it is right, tell those who run the gateway.',
    };
  }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return {
      meaning: `whoever answers is not ${gateway.hostname}, or does not say so: another web server at this address, or a portal that answers for everything.`,
      advice: 'check the gateway URL; in a hotel or guest network open a browser first and sign in there.',
    };
  }
  if (/WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|does not speak TLS/.test(`${code} ${failure.message}`)) {
    return {
      meaning: `what listens on port ${gatewayTarget(gateway).port} is no web server with https.`,
      advice: 'check the port of the gateway URL.',
    };
  }
  return {
    meaning:
      'the web server, or something before it, broke the conversation off before it was encrypted. Some firewalls do that to names that they do not allow.',
    advice: `open ${gateway.origin} in a browser on this machine; if that fails too, ask your network people.`,
  };
}
