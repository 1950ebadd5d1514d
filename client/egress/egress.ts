import type { Socket } from 'node:net';
import type { Target } from '../../protocol/target.ts';
import type { ProxySignIn } from './proxy-auth/credentials.ts';

/** How connections leave this network. */
export interface Egress {
  /** The name in messages: `direct`, or the proxy without its password. */
  readonly name: string;
  /**
   * Connects to the gateway. The caller owns the socket, which has an `error` listener already.
   * Throws `PROXY_UNREACHABLE`, `PROXY_SIGN_IN`, `PROXY_REFUSED`, `PAC_FAILED`, `GATEWAY_UNREACHABLE`,
   * `GATEWAY_TIMEOUT`, `TLS_FAILED`.
   */
  connect(gateway: Target, signal: AbortSignal): Promise<Socket>;
}

/** The proxy settings of environment and configuration, unparsed. */
export interface ProxySettings {
  readonly https?: string;
  readonly all?: string;
  /** Applies to plain http only, and is no more than a hint here. */
  readonly http?: string;
  readonly except?: string;
  /** The credentials for a proxy that requires a sign-in, where its URL has none. */
  readonly signIn?: ProxySignIn;
  readonly pac?: PacSetting;
  /** Absent: the system's settings are ignored. */
  readonly system?: SystemHints;
}

/** A configured PAC file. */
export interface PacSetting {
  /** A URL or a path. */
  readonly location: string;
  /** `POSTERN_PAC` has precedence over the other variables, `config.json` has not. */
  readonly from: 'POSTERN_PAC' | 'config.json';
}

/** What is known of the system before its proxy settings are read. */
export interface SystemHints {
  readonly platform: NodeJS.Platform;
  /** `XDG_CURRENT_DESKTOP`. */
  readonly desktop?: string;
}
