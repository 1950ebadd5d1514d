import type { Socket } from 'node:net';
import type { TunnelErrorCode } from '../../../protocol/errors.ts';
import type { Target } from '../../../protocol/target.ts';
import { Failure, toFailure } from '../../errors/failure.ts';
import { stepName } from '../proxy/proxy-url.ts';
import type { Step } from '../proxy/proxy-url.ts';
import { stepEgress } from './hop-egress.ts';
import { trustOf } from '../tls/trust.ts';
import { wayMemory } from './route-cache.ts';
import type { WayMemory } from './route-cache.ts';
import type { Verdict, Way } from './route.ts';

/** After these the next step may get through; a proxy that wants a sign-in is there, and means us. */
const passOn: ReadonlySet<TunnelErrorCode> = new Set([
  'PROXY_UNREACHABLE',
  'PROXY_REFUSED',
  'GATEWAY_UNREACHABLE',
  'GATEWAY_TIMEOUT',
]);

/** Whether another way may get through after this failure. */
export function isWayBlocked(error: unknown): boolean {
  return error instanceof Failure && passOn.has(error.code);
}

/** The steps as they are tried: those that were not there a short while ago come last. */
export function inOrder(steps: readonly Step[], memory: Pick<WayMemory, 'isDead'>): readonly Step[] {
  if (steps.length < 2) return steps;
  const dead = new Set(steps.filter((step) => memory.isDead(step)));
  return [...steps.filter((step) => !dead.has(step)), ...dead];
}

/**
 * Connects by the first step that gets through. The caller owns the socket, which has an `error` listener already. When
 * none does, the failure of the first is thrown, naming the others. Throws as `Egress.connect`.
 */
export async function connectAlong(
  verdict: Verdict,
  { way, gateway, signal }: { readonly way: Way; readonly gateway: Target; readonly signal: AbortSignal },
): Promise<Socket> {
  const memory = wayMemory(way.state);
  const failures: Failure[] = [];
  const steps = inOrder(verdict.steps, memory);
  for (const step of steps) {
    try {
      const socket = await stepEgress(step, trustOf(way), way.proxy.signIn).connect(gateway, signal);
      if (steps.length > 1) memory.keepAlive(step);
      return socket;
    } catch (error) {
      if (!isWayBlocked(error)) throw error;
      failures.push(error as Failure);
      if ((error as Failure).code === 'PROXY_UNREACHABLE' && steps.length > 1) memory.keepDead(step);
      if (signal.aborted) break;
    }
  }
  throw ofAll(verdict, steps, failures);
}

/** What is said when nothing got through: the first failure, and who chose this way. */
function ofAll({ source, trouble }: Verdict, steps: readonly Step[], failures: readonly Failure[]): Failure {
  const [first, ...others] = failures;
  const also = others.length === 0 ? '' : `; nor did ${steps.slice(1).map(stepName).join(', ')} help`;
  const context = { cause: first, ...(first!.hint === undefined ? {} : { hint: first!.hint }) };
  if (trouble !== undefined) {
    return new Failure('PAC_FAILED', `${trouble}, and without it: ${first!.message}${also}`, context);
  }
  const who = source === 'nothing' ? '' : ` (chosen by ${source}${also})`;
  return new Failure(toFailure(first).code, `${first!.message}${who}`, context);
}
