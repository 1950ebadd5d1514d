import { TunnelError } from '../../protocol/errors.ts';
import type { TunnelErrorCode } from '../../protocol/errors.ts';

/** What the client can add to a failure for the person who reads it. */
export interface FailureContext extends ErrorOptions {
  /** One command to paste, in place of the general one for the code; an empty text means there is none. */
  readonly hint?: string;
  /** The gateway's name for the refused request, to quote to its operator. */
  readonly requestId?: string;
  /** What the refusal says about how to ask better. */
  readonly challenge?: Challenge;
}

/** What an answer tells those who have to prove something. */
export interface Challenge {
  /** `DPoP-Nonce`: the next proof has to hold it (RFC 9449 §8). */
  readonly nonce?: string;
  /** `Date`: what time it is there, in milliseconds since the epoch. */
  readonly date?: number;
}

/** A `TunnelError` as the client sees it: with a hint and the gateway's request id, where there are any. */
export class ClientError extends TunnelError {
  readonly hint: string | undefined;
  readonly requestId: string | undefined;
  readonly challenge: Challenge | undefined;

  constructor(code: TunnelErrorCode, message: string, context: FailureContext = {}) {
    super(code, message, context);
    this.hint = context.hint;
    this.requestId = context.requestId;
    this.challenge = context.challenge;
  }
}

/** `error` itself when its code is known, else an `INTERNAL` failure of the client. */
export function toFailure(error: unknown): TunnelError {
  if (error instanceof TunnelError) return error;
  const what = error instanceof Error ? error.message : String(error);
  return new ClientError('INTERNAL', `this is a fault in postern itself: ${what}`, { cause: error });
}
