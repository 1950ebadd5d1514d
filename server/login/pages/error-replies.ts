import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { TunnelError } from '../../../protocol/errors.ts';
import { errorPage, explainError, explainRefusal } from '../../web/error-page.ts';
import type { ErrorPageText } from '../../web/error-page.ts';
import { pageHeaders } from '../../web/page.ts';
import { FormRefusal } from './forms.ts';
import { ProviderRefusal } from '../upstream/identity-provider.ts';

/** The error for a page in place of the requested one; the code is one that `explainError` knows. */
export class PageError extends Error {
  override readonly name = 'PageError';
  readonly code: string;
  readonly status: number;

  constructor(code: string, status: number) {
    super(code);
    this.code = code;
    this.status = status;
  }
}

/** Answers every error of the routes of `app` with a page that says what to do; calls `onError` for those that are not the caller's. */
export function registerErrorPages(
  app: FastifyInstance,
  publicUrl: URL,
  onError: (error: unknown) => void,
): void {
  app.setErrorHandler((error, request: FastifyRequest, reply: FastifyReply) => {
    const { status, text } = classify(error);
    if (status >= 500 || error instanceof ProviderRefusal) onError(error);
    return reply
      .code(status)
      .header('X-Request-Id', request.id)
      .headers(pageHeaders())
      .type('text/html; charset=utf-8')
      .send(errorPage(text, publicUrl, request.id));
  });
}

interface ErrorReply {
  readonly text: ErrorPageText;
  readonly status: number;
}

function classify(error: unknown): ErrorReply {
  if (error instanceof TunnelError) return { text: explainRefusal(error), status: error.facts.status || 500 };
  const { code, status } = codeOf(error);
  return { text: explainError(code), status };
}

function codeOf(error: unknown): { readonly code: string; readonly status: number } {
  if (error instanceof PageError) return error;
  if (error instanceof FormRefusal) return { code: 'form_stale', status: 403 };
  if (error instanceof ProviderRefusal)
    return { code: error.code, status: error.code === 'provider_down' ? 502 : 403 };
  const { name, statusCode = 500 } = error as { name?: string; statusCode?: number };
  // The cookie of the sign-in is missing, or the sign-in that it names (oidc-provider).
  if (name === 'SessionNotFound') return { code: 'expired', status: 400 };
  return statusCode < 500
    ? { code: 'invalid_request', status: statusCode }
    : { code: 'server_error', status: 500 };
}
