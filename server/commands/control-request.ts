import { request } from 'node:http';
import { json } from 'node:stream/consumers';
import type { Config } from '../config/config.ts';

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
  const text = body === undefined ? undefined : JSON.stringify(body);
  try {
    const { status, answer } = await exchange(control.path, path, text);
    if (status < 300) return answer;
    const { error } = answer as { error?: unknown };
    throw new ControlError(typeof error === 'string' ? error : `it answered ${status}`);
  } catch (cause) {
    if (cause instanceof ControlError) throw cause;
    throw new ControlError(wordsOf((cause as NodeJS.ErrnoException).code, control.path), { cause });
  }
}

function exchange(
  socketPath: string,
  path: string,
  body: string | undefined,
): Promise<{ status: number; answer: unknown }> {
  const method = body === undefined ? 'GET' : 'POST';
  const headers = body === undefined ? {} : { 'Content-Type': 'application/json' };
  return new Promise((resolve, reject) => {
    const asking = request(
      { socketPath, path, method, headers, timeout: timeoutMs, agent: false },
      (response) => {
        json(response).then((answer) => resolve({ status: response.statusCode ?? 0, answer }), reject);
      },
    );
    asking.once('error', reject);
    asking.once('timeout', () => asking.destroy(new ControlError('the gateway does not answer')));
    asking.end(body);
  });
}

function wordsOf(code: string | undefined, path: string): string {
  if (code === 'ENOENT' || code === 'ECONNREFUSED')
    return `no gateway runs with this configuration (${path})`;
  if (code === 'EACCES') return `${path} is for the user that the gateway runs as`;
  return `the gateway cannot be asked (${code ?? 'its answer cannot be read'})`;
}
