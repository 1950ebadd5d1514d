import type { Socket } from 'node:net';
import type { TunnelErrorCode } from '../../../protocol/errors.ts';
import type { Target } from '../../../protocol/target.ts';
import { ClientError, toFailure } from '../../errors/failure.ts';
import { stepName } from '../proxy/proxy-url.ts';
import type { Hop } from '../proxy/proxy-url.ts';
import { stepEgress } from './hop-egress.ts';
import { trustOf } from '../tls/trust.ts';
import { routeCache } from './route-cache.ts';
import type { WayMemory } from './route-cache.ts';
import type { Route, RouteRequest } from './route.ts';

/** After these the next step may get through; a proxy that wants a sign-in is there, and means us. */
const passOn: ReadonlySet<TunnelErrorCode> = new Set([
  'PROXY_UNREACHABLE',
  'PROXY_REFUSED',
  'GATEWAY_UNREACHABLE',
  'GATEWAY_TIMEOUT',
]);

/** Whether another way may get through after this failure. */
export function isRouteFailure(error: unknown): boolean {
  return error instanceof ClientError && passOn.has(error.code);
}

/** The steps as they are tried: those that were not there a short while ago come last. */
export function orderByHealth(steps: readonly Hop[], memory: Pick<WayMemory, 'isDead'>): readonly Hop[] {
  if (steps.length < 2) return steps;
  const dead = new Set(steps.filter((step) => memory.isDead(step)));
  return [...steps.filter((step) => !dead.has(step)), ...dead];
}

/**
 * Connects by the first step that gets through. The caller owns the socket, which has an `error` listener already. When
 * none does, the failure of the first is thrown, naming the others. Throws as `Egress.connect`.
 */
export async function connectViaRoute(
  verdict: Route,
  { way, gateway, signal }: { readonly way: RouteRequest; readonly gateway: Target; readonly signal: AbortSignal },
): Promise<Socket> {
  const memory = routeCache(way.state);
  const failures: ClientError[] = [];
  const steps = orderByHealth(verdict.steps, memory);
  for (const step of steps) {
    try {
      const socket = await stepEgress(step, trustOf(way), way.proxy.signIn).connect(gateway, signal);
      if (steps.length > 1) memory.keepAlive(step);
      return socket;
    } catch (error) {
      if (!isRouteFailure(error)) throw error;
      failures.push(error as ClientError);
      if ((error as ClientError).code === 'PROXY_UNREACHABLE' && steps.length > 1) memory.keepDead(step);
      if (signal.aborted) break;
    }
  }
  throw ofAll(verdict, steps, failures);
}

/** What is said when nothing got through: the first failure, and who chose this way. */
function ofAll({ source, trouble }: Route, steps: readonly Hop[], failures: readonly ClientError[]): ClientError {
  const [first, ...others] = failures;
  const also = others.length === 0 ? '' : `; nor did ${steps.slice(1).map(stepName).join(', ')} help`;
  const context = { cause: first, ...(first!.hint === undefined ? {} : { hint: first!.hint }) };
  if (trouble !== undefined) {
    return new ClientError('PAC_FAILED', `${trouble}, and without it: ${first!.message}${also}`, context);
  }
  const who = source === 'nothing' ? '' : ` (chosen by ${source}${also})`;
  return new ClientError(toFailure(first).code, `${first!.message}${who}`, context);
}
