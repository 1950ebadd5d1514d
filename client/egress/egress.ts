import type { Socket } from 'node:net';
import type { Target } from '../../protocol/target.ts';
import type { ProxySignIn } from './proxy-auth/credentials.ts';

/** The way out of this network. */
export interface Egress {
  /** What a message calls it: `direct`, or the proxy without its password. */
  readonly name: string;
  /**
   * Connects to the gateway. The caller owns the socket, which has an `error` listener already.
   * Throws `PROXY_UNREACHABLE`, `PROXY_SIGN_IN`, `PROXY_REFUSED`, `PAC_FAILED`, `GATEWAY_UNREACHABLE`,
   * `GATEWAY_TIMEOUT`, `TLS_FAILED`.
   */
  connect(gateway: Target, signal: AbortSignal): Promise<Socket>;
}

/** What environment and configuration say about proxies, unread. */
export interface ProxySettings {
  readonly https?: string;
  readonly all?: string;
  /** Said of plain http only, so that it is no more than a hint. */
  readonly http?: string;
  readonly except?: string;
  /** Who signs in at a proxy that asks, where its URL does not say. */
  readonly signIn?: ProxySignIn;
  readonly pac?: PacSetting;
  /** Absent: the system is not asked. */
  readonly system?: SystemHints;
}

/** A PAC file that was named to us. */
export interface PacSetting {
  /** A URL or a path. */
  readonly location: string;
  /** `POSTERN_PAC` goes before the other variables, `config.json` after them. */
  readonly from: 'POSTERN_PAC' | 'config.json';
}

/** What is known of the system before it is asked for its proxy. */
export interface SystemHints {
  readonly platform: NodeJS.Platform;
  /** `XDG_CURRENT_DESKTOP`. */
  readonly desktop?: string;
}
