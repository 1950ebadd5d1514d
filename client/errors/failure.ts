import { TunnelError } from '../../protocol/errors.ts';
import type { TunnelErrorCode } from '../../protocol/errors.ts';

/** Details of an error for people. */
export interface FailureContext extends ErrorOptions {
  /** One command to paste, in place of the general hint for the code; empty: no hint at all. */
  readonly hint?: string;
  /** The gateway's id of the rejected request, to quote to its operator. */
  readonly requestId?: string;
  /** What the gateway wants to see in the next request. */
  readonly challenge?: GatewayChallenge;
  /** Present: nothing has decided about the request, and the same request can succeed in a moment. */
  readonly interruption?: Interruption;
}

/** How a request was lost. It says nothing about what the network lets through. */
export interface Interruption {
  /**
   * `lost`: the connection broke, or none came about. `silent`: nothing answered for as long as is waited for an answer.
   * `unavailable`: a server answered that it cannot answer now, as servers do while the one behind them restarts.
   */
  readonly how: 'lost' | 'silent' | 'unavailable';
  /** How often the request can be repeated at most; absent: as time allows. */
  readonly repeats?: number;
  /** The field `Retry-After`, in milliseconds. */
  readonly retryAfterMs?: number;
}

/** The fields of a response that matter for the next DPoP proof. */
export interface GatewayChallenge {
  /** `DPoP-Nonce`: the next proof must contain it (RFC 9449 §8). */
  readonly nonce?: string;
  /** `Date`: the gateway's clock, in milliseconds since the epoch. */
  readonly date?: number;
}

/** A `TunnelError` of the client: with a hint and the gateway's request id, where there are any. */
export class ClientError extends TunnelError {
  readonly hint: string | undefined;
  readonly requestId: string | undefined;
  readonly challenge: GatewayChallenge | undefined;
  readonly interruption: Interruption | undefined;

  constructor(code: TunnelErrorCode, message: string, context: FailureContext = {}) {
    super(code, message, context);
    this.hint = context.hint;
    this.requestId = context.requestId;
    this.challenge = context.challenge;
    this.interruption = context.interruption;
  }
}

/** What the system can refuse to a program that has no fault: space, files, permissions, or a directory that is gone. */
const surroundings = new Set(
  (
    'EACCES EDQUOT EFBIG EIO EISDIR ELOOP EMFILE ENAMETOOLONG ENFILE ENODEV ENOENT ENOMEM ENOSPC ENOTDIR ENOTEMPTY EPERM ' +
    'EROFS ESTALE ETXTBSY'
  ).split(' '),
);

/**
 * `error` itself when it is a `TunnelError`; `CONFIG_INVALID` for a refusal of the system that no other code reports; else an
 * `INTERNAL` error of the client.
 */
export function toFailure(error: unknown): TunnelError {
  if (error instanceof TunnelError) return error;
  const { code, syscall } = (error ?? {}) as NodeJS.ErrnoException;
  if (error instanceof Error && syscall !== undefined && surroundings.has(code ?? ''))
    return new ClientError('CONFIG_INVALID', `the system refuses something: ${error.message}`, {
      cause: error,
    });
  const what = error instanceof Error ? error.message : String(error);
  return new ClientError('INTERNAL', `this is a bug in postern: ${what}`, { cause: error });
}
