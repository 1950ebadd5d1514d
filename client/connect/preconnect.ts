import { connectEarly } from '../egress/direct.ts';
import type { EarlyConnection } from '../egress/direct.ts';
import type { PlannedRoute } from '../egress/route/route.ts';
import { hasSignInAt } from '../credentials/session-path.ts';
import type { ClientSettings } from '../settings.ts';

/*
 * Why this file must import little. `postern connect` runs before every ssh, and starts in two halves
 * (docs/decisions/032-fast-start.md):
 *
 *   1. commands/connect.ts and its static imports: arguments, settings, the route, this file. They need no `node:tls`,
 *      `node:http` or `node:crypto`, so the first packet is sent before those are loaded.
 *   2. connect/run-tunnel.ts and its imports: TLS, HTTP, WebSocket, credentials. Loaded by the `import()` in
 *      commands/connect.ts while the first packets travel: 20 to 35 ms at a round trip of 30 ms.
 *
 * One value, the planned route, goes through both halves:
 *
 *   settings -> gatewayRoute -> preconnect                                               (1)
 *                     |
 *                     +-------> runTunnel -> egressFor -> openTunnelTo -> entry -> egress.connect    (2)
 *
 * `egress.connect` of a direct route takes over the early connection instead of making a new one (egress/direct.ts). A static
 * import that leads from here or from commands/connect.ts into the second half costs the gain; other commands, entries and
 * kinds of proxies are behind an `import()` of their own.
 */

/**
 * Starts the TCP connection that the tunnel will need, where a credential seems to be there and the route is known to
 * lead straight to the gateway. The result belongs to the caller, which calls `stop` when it is done; undefined where
 * nothing was started.
 */
export function preconnect(
  { token, gateway }: ClientSettings,
  { request, route }: PlannedRoute,
): EarlyConnection | undefined {
  const { file, text, state } = token;
  if (file === undefined && text === undefined && !hasSignInAt(state, gateway)) return undefined;
  const [hop, ...more] = route?.hops ?? [];
  return hop === 'direct' && more.length === 0 ? connectEarly(request.gateway) : undefined;
}
