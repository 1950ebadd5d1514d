import type { Target } from '../../../protocol/target.ts';
import type { ProxySettings } from '../egress.ts';
import type { Hop } from '../proxy/proxy-url.ts';

/** A request for a route to the gateway, with the settings that determine it. */
export interface RouteRequest {
  readonly gateway: Target;
  /** Whether the gateway speaks TLS. One that does not is on this machine, and no proxy leads there. */
  readonly tls: boolean;
  readonly proxy: ProxySettings;
  readonly caFile?: string;
  /** The state folder, for the route cache; absent: nothing is cached. */
  readonly state?: string;
  /** `false`: the system's authorities are ignored. */
  readonly trustsSystem?: boolean;
  /** `SSL_CERT_FILE`: the file with the system's authorities. */
  readonly systemCaFile?: string;
}

/** A request for a route, with the route where settings and environment determine it. */
export interface PlannedRoute {
  readonly request: RouteRequest;
  /** Absent: only the system or a PAC file can tell, and they are asked when a connection is made. */
  readonly route?: Route;
}

/** The hops to try, in this order, and what determines them. */
export interface Route {
  /** `HTTPS_PROXY`, `NO_PROXY`, `POSTERN_PAC`, `GNOME`, `macOS`, `Windows`, `WPAD` … */
  readonly source: string;
  /** The reason, as a clause for people. */
  readonly why: string;
  readonly hops: readonly Hop[];
  /** Why a PAC file was not used. */
  readonly pacError?: string;
  /** What is wrong with a PAC file that was read, to be said when the route is used for the first time. Not kept. */
  readonly warning?: string;
}
