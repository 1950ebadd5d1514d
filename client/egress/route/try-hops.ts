import type { Socket } from 'node:net';
import type { TunnelErrorCode } from '../../../protocol/errors.ts';
import type { Target } from '../../../protocol/target.ts';
import { ClientError, toFailure } from '../../errors/failure.ts';
import { interruptionOf } from '../../http/refusal.ts';
import { hopName } from '../proxy/proxy-url.ts';
import type { Hop } from '../proxy/proxy-url.ts';
import { hopEgress } from './hop-egress.ts';
import { trustOf } from '../tls/trust.ts';
import { routeCache } from './route-cache.ts';
import type { RouteCache } from './route-cache.ts';
import type { Route, RouteRequest } from './route.ts';

/** After these errors the next hop is tried; not after a proxy's demand for a sign-in, which can be met. */
const triesNextHop: ReadonlySet<TunnelErrorCode> = new Set([
  'PROXY_UNREACHABLE',
  'PROXY_REFUSED',
  'GATEWAY_UNREACHABLE',
  'GATEWAY_TIMEOUT',
]);

/** Whether another hop may get through after this failure. */
export function isRouteFailure(error: unknown): boolean {
  return error instanceof ClientError && triesNextHop.has(error.code);
}

/** The hops in the order in which they are tried: those that were unreachable a short while ago come last. */
export function orderByHealth(hops: readonly Hop[], memory: Pick<RouteCache, 'isDead'>): readonly Hop[] {
  if (hops.length < 2) return hops;
  const dead = new Set(hops.filter((hop) => memory.isDead(hop)));
  return [...hops.filter((hop) => !dead.has(hop)), ...dead];
}

/**
 * Connects by the first hop that gets through. The caller owns the socket, which has an `error` listener already. When
 * none does, the failure of the first is thrown, naming the others. Throws as `Egress.connect`.
 */
export async function connectViaRoute(
  route: Route,
  {
    request,
    gateway,
    signal,
  }: { readonly request: RouteRequest; readonly gateway: Target; readonly signal: AbortSignal },
): Promise<Socket> {
  const memory = routeCache(request.state);
  const failures: ClientError[] = [];
  const hops = orderByHealth(route.hops, memory);
  for (const hop of hops) {
    try {
      const socket = await hopEgress(hop, trustOf(request), request.proxy.signIn).connect(gateway, signal);
      if (hops.length > 1) memory.keepAlive(hop);
      return socket;
    } catch (error) {
      if (!isRouteFailure(error)) throw error;
      failures.push(error as ClientError);
      if ((error as ClientError).code === 'PROXY_UNREACHABLE' && hops.length > 1) memory.keepDead(hop);
      if (signal.aborted) break;
    }
  }
  throw combinedFailure(route, hops, failures);
}

function nameInText(hop: Hop): string {
  return hop === 'direct' ? 'a direct connection' : hopName(hop);
}

/** The error when no hop got through: the first failure, and what determined the route. */
function combinedFailure(
  { source, pacError }: Route,
  hops: readonly Hop[],
  failures: readonly ClientError[],
): ClientError {
  const [first, ...others] = failures;
  const also = others.length === 0 ? '' : `; ${hops.slice(1).map(nameInText).join(', ')} failed too`;
  const { hint, interruption } = first!;
  const isPassing = failures.every((failure) => interruptionOf(failure) !== undefined);
  const context = {
    cause: first,
    ...(hint === undefined ? {} : { hint }),
    ...(isPassing && interruption !== undefined && { interruption }),
  };
  if (pacError !== undefined) {
    return new ClientError('PAC_FAILED', `${pacError}, and without it: ${first!.message}${also}`, context);
  }
  const chosenBy = source === 'nothing' ? '' : ` (chosen by ${source}${also})`;
  return new ClientError(toFailure(first).code, `${first!.message}${chosenBy}`, context);
}
