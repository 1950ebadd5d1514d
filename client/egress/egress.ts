import type { Socket } from 'node:net';
import type { Target } from '../../protocol/target.ts';
import type { ProxySignIn } from './proxy-auth/credentials.ts';

/** The way out of this network. */
export interface Egress {
  /** What a message calls it: `direct`, or the proxy without its password. */
  readonly name: string;
  /**
   * Connects to the gateway. The caller owns the socket, which has an `error` listener already.
   * Throws `PROXY_UNREACHABLE`, `PROXY_SIGN_IN`, `PROXY_REFUSED`, `GATEWAY_UNREACHABLE`, `GATEWAY_TIMEOUT`, `TLS_FAILED`.
   */
  connect(gateway: Target, signal: AbortSignal): Promise<Socket>;
}

/** What the environment says about proxies, unread. */
export interface ProxySettings {
  readonly https?: string;
  readonly all?: string;
  readonly except?: string;
  /** Who signs in at a proxy that asks, where its URL does not say. */
  readonly signIn?: ProxySignIn;
}
