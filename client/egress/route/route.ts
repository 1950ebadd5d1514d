import type { Target } from '../../../protocol/target.ts';
import type { ProxySettings } from '../egress.ts';
import type { Hop } from '../proxy/proxy-url.ts';

/** Where a connection has to go and under which circumstances. */
export interface RouteRequest {
  readonly gateway: Target;
  /** Whether the gateway speaks TLS. One that does not is on this machine, and no proxy leads there. */
  readonly tls: boolean;
  readonly proxy: ProxySettings;
  readonly caFile?: string;
  /** Where to remember what was found out; absent: nowhere. */
  readonly state?: string;
  /** `false`: the system's authorities are not asked. */
  readonly trustsSystem?: boolean;
  /** The file with the system's authorities, where that is said: `SSL_CERT_FILE`. */
  readonly systemCaFile?: string;
}

/** A request for a route, with the route where settings and environment determine it. */
export interface PlannedRoute {
  readonly request: RouteRequest;
  /** Absent: only the system or a PAC file can tell, and they are asked when a connection is made. */
  readonly route?: Route;
}

/** What is to be tried, in this order, and who said so. */
export interface Route {
  /** `HTTPS_PROXY`, `NO_PROXY`, `POSTERN_PAC`, `GNOME`, `macOS`, `Windows`, `WPAD` … */
  readonly source: string;
  /** A clause for people: why this is so. */
  readonly why: string;
  readonly steps: readonly Hop[];
  /** What kept a better answer from being had: a PAC file that cannot be fetched. */
  readonly trouble?: string;
}
