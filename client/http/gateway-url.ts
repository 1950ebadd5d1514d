import { quote } from '../../protocol/target.ts';
import type { Target } from '../../protocol/target.ts';
import { ClientError } from '../errors/failure.ts';

/**
 * The gateway's URL with a slash at its end. Throws `CONFIG_INVALID`.
 * Without TLS the token would travel in the clear, so http is for this machine only.
 */
export function parseGateway(text: string): URL {
  const refuse = (why: string): ClientError =>
    new ClientError('CONFIG_INVALID', `${quote(text)} is not a gateway: ${why}`);
  if (!URL.canParse(text)) throw refuse('write it like https://gw.example/ssh/');
  const url = new URL(text);
  if (url.username !== '' || url.password !== '') {
    throw new ClientError('CONFIG_INVALID', 'a gateway URL holds no user name and no password');
  }
  if (url.search !== '' || url.hash !== '') throw refuse('it has a query or a fragment');
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && isThisMachine(url.hostname))) {
    throw refuse('it has to start with https://, or the token would travel in the clear');
  }
  if (!url.pathname.endsWith('/')) url.pathname += '/';
  return url;
}

function isThisMachine(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(hostname);
}

/** The gateway as a target of its own, for the egress. */
export function gatewayTarget(gateway: URL): Target {
  const host = gateway.hostname.replace(/^\[|\]$/g, '');
  return { host, port: Number(gateway.port || (gateway.protocol === 'https:' ? 443 : 80)) };
}
