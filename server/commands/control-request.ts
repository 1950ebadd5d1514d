import type { Config } from '../config/config.ts';
import { PeerTimeoutError, requestJson } from '../cluster/peer-client.ts';

const timeoutMs = 10_000;

/** The gateway does not answer on its control socket, or refuses; the message is for the operator. */
export class ControlError extends Error {
  override readonly name = 'ControlError';
  /** The status of a response that is a refusal. */
  readonly status: number | undefined;

  constructor(message: string, { status, ...options }: ErrorOptions & { readonly status?: number } = {}) {
    super(message, options);
    this.status = status;
  }
}

/** Sends a request to the running gateway over its control socket; resolves to the JSON of the response. Rejects with `ControlError`. */
export async function requestGateway(
  { control }: Pick<Config, 'control'>,
  path: string,
  body?: object,
): Promise<unknown> {
  try {
    const response = await requestJson(control.path, { path, timeoutMs, ...(body && { body }) });
    const { status } = response;
    if (status < 300) return response.body;
    const { error } = response.body as { error?: unknown };
    throw new ControlError(typeof error === 'string' ? error : `it answered ${status}`, { status });
  } catch (cause) {
    if (cause instanceof ControlError) throw cause;
    if (cause instanceof PeerTimeoutError) throw new ControlError('the gateway does not answer', { cause });
    throw new ControlError(describeFailure((cause as NodeJS.ErrnoException).code, control.path), { cause });
  }
}

function describeFailure(code: string | undefined, path: string): string {
  if (code === 'ENOENT' || code === 'ECONNREFUSED')
    return `no gateway is running with this configuration (${path})`;
  if (code === 'EACCES') return `only the user that runs the gateway, and root, can use ${path}`;
  return `the gateway cannot be reached (${code ?? 'its response cannot be read'})`;
}
