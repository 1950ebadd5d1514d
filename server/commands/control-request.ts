import type { Config } from '../config/config.ts';
import { PeerTimeoutError, requestJson } from '../cluster/peer-client.ts';

const timeoutMs = 10_000;

/** The gateway does not answer on its control socket, or says no; the message is for the operator. */
export class ControlError extends Error {
  override readonly name = 'ControlError';
}

/** Asks the running gateway over its control socket; resolves to the JSON of its answer. Rejects with `ControlError`. */
export async function askGateway(
  { control }: Pick<Config, 'control'>,
  path: string,
  body?: object,
): Promise<unknown> {
  try {
    const answer = await requestJson(control.path, { path, timeoutMs, ...(body && { body }) });
    const { status } = answer;
    if (status < 300) return answer.body;
    const { error } = answer.body as { error?: unknown };
    throw new ControlError(typeof error === 'string' ? error : `it answered ${status}`);
  } catch (cause) {
    if (cause instanceof ControlError) throw cause;
    if (cause instanceof PeerTimeoutError) throw new ControlError('the gateway does not answer', { cause });
    throw new ControlError(wordsOf((cause as NodeJS.ErrnoException).code, control.path), { cause });
  }
}

function wordsOf(code: string | undefined, path: string): string {
  if (code === 'ENOENT' || code === 'ECONNREFUSED')
    return `no gateway runs with this configuration (${path})`;
  if (code === 'EACCES') return `${path} is for the user that the gateway runs as`;
  return `the gateway cannot be asked (${code ?? 'its answer cannot be read'})`;
}
