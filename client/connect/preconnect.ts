import { connectEarly } from '../egress/direct.ts';
import type { EarlyConnection } from '../egress/direct.ts';
import type { PlannedRoute } from '../egress/route/route.ts';
import { hasSignInAt } from '../credentials/session-path.ts';
import type { ClientSettings } from '../settings.ts';

/*
 * Why this file must import little. `postern connect` runs before every ssh, and the shipped bundle is cut into parts
 * for it (scripts/bundle/build.mjs, docs/decisions/032-fast-start.md):
 *
 *   1. commands/connect.ts and all that it imports: arguments, settings, the route, this file. V8 reads it at the start.
 *   2. connect/run-tunnel.ts, the relay entry, their imports: TLS, HTTP, WebSocket, credentials. Loaded by the `import()` in
 *      commands/connect.ts, while the first packets of the early connection travel.
 *   3. All other commands, entries and kinds of proxies: compressed, and compiled when an `import()` asks for them.
 *
 * So one value, the planned route, goes through both halves of the start:
 *
 *   settings -> gatewayRoute -> preconnect                                          (part 1)
 *                     |
 *                     +-------> runTunnel -> egressFor -> openTunnelTo -> entry -> egress.connect    (part 2)
 *
 * `egress.connect` of a direct route takes the early connection over instead of making a new one (egress/direct.ts).
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
