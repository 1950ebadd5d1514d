import { quote } from '../../protocol/target.ts';
import type { Target } from '../../protocol/target.ts';
import { ClientError } from '../errors/failure.ts';

/**
 * Parses the URL of a gateway; the result ends in a slash. Throws `CONFIG_INVALID`. Without TLS the token would be sent in
 * clear text, so http is accepted for this machine only.
 */
export function parseGateway(text: string): URL {
  const invalid = (why: string): ClientError =>
    new ClientError('CONFIG_INVALID', `${quote(text)} is not a gateway URL: ${why}`);
  if (!URL.canParse(text)) throw invalid('write it like https://gw.example/ssh/');
  const url = new URL(text);
  if (url.username !== '' || url.password !== '') {
    throw new ClientError('CONFIG_INVALID', 'a gateway URL cannot contain a user name or password');
  }
  if (url.search !== '' || url.hash !== '') throw invalid('it contains a query or a fragment');
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && isThisMachine(url.hostname))) {
    throw invalid('it must start with https://, or the token would be sent in clear text');
  }
  if (!url.pathname.endsWith('/')) url.pathname += '/';
  return url;
}

function isThisMachine(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(hostname);
}

/** The host and port of the gateway, for the egress. */
export function gatewayTarget(gateway: URL): Target {
  const host = gateway.hostname.replace(/^\[|\]$/g, '');
  return { host, port: Number(gateway.port || (gateway.protocol === 'https:' ? 443 : 80)) };
}
