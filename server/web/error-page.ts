import type { TunnelError } from '../../protocol/errors.ts';
import { html, renderPage } from './page.ts';

/** An error for a person: a headline, and what to do. */
export interface ErrorPageText {
  readonly title: string;
  readonly advice: string;
}

const fallback: ErrorPageText = {
  title: 'Something went wrong',
  advice:
    'Go back and try again. If it happens again, tell the administrator of this gateway, with the time.',
};

/** The errors of OAuth (RFC 6749 §4.1.2.1) and our own, in words. */
const explanations: Readonly<Record<string, ErrorPageText>> = {
  access_denied: {
    title: 'You are not signed in',
    advice: 'The sign-in was refused. You can start again at any time.',
  },
  expired: {
    title: 'This sign-in has ended',
    advice:
      'It took too long, was already completed, or was started in another browser. Start again: run postern login, or open the page “Your access”.',
  },
  cookies: {
    title: 'Your browser does not accept cookies here',
    advice:
      'Signing in requires one. Allow cookies for this address, then open the page “Your access” again.',
  },
  form_stale: {
    title: 'This page is out of date',
    advice: 'Nothing was changed. Open the page “Your access” again and repeat the action there.',
  },
  invalid_client: {
    title: 'Unknown program',
    advice: 'This gateway signs people in only for its own client.',
  },
  invalid_redirect_uri: {
    title: 'This link is not safe',
    advice:
      'It would have sent your sign-in somewhere other than the postern client on your machine. Do not use it again.',
  },
  invalid_request: {
    title: 'This link is incomplete',
    advice: 'Start again: run postern login, or open the page “Your access”.',
  },
  not_found: { title: 'Page not found', advice: 'Check the address, or go to the start page.' },
  provider_down: {
    title: 'The identity provider is not responding',
    advice: 'Your account is fine. Try again in a minute. People who are already signed in stay signed in.',
  },
  provider_refused: {
    title: 'The identity provider did not sign you in',
    advice: 'Start again. If it happens again, tell the administrator of this gateway, with the time.',
  },
  subject_unusable: {
    title: 'This name cannot be used here',
    advice:
      'The identity provider sent a name that this gateway cannot accept. Tell the administrator of this gateway.',
  },
  too_many_requests: {
    title: 'Too many requests',
    advice: 'Too many sign-ins were started from your network. Wait a minute, then start again.',
  },
  server_error: {
    title: 'The gateway failed',
    advice:
      'Try again in a minute. If it happens again, tell the administrator of this gateway, with the time.',
  },
};

/** The text for an error code. */
export function explainError(code: string): ErrorPageText {
  if (code === 'session_not_found') return explanations['expired']!;
  return (Object.hasOwn(explanations, code) ? explanations[code] : undefined) ?? fallback;
}

/** What a refusal of the gateway means to a person with a browser, by its status. */
const refusals: Readonly<Record<number, ErrorPageText>> = {
  400: {
    title: 'The gateway cannot read this request',
    advice: 'Check the address, or go to the start page.',
  },
  401: {
    title: 'Sign in first',
    advice: 'This address is for programs that have signed in. Open “Your access”.',
  },
  404: explanations['not_found']!,
  426: {
    title: 'This address is for SSH',
    advice: 'It carries SSH connections and has no page. The start page says how to connect.',
  },
  500: explanations['server_error']!,
};

/** The text for a refusal; for one without a text of its own, what the refusal itself says. */
export function explainRefusal({ message, facts: { status } }: TunnelError): ErrorPageText {
  return (
    refusals[status || 500] ?? { title: 'The gateway refused this request', advice: `It says: ${message}.` }
  );
}

/** A page with an error, and links to go on from there. `requestId` is in the log and the audit too. */
export function errorPage({ title, advice }: ErrorPageText, publicUrl: URL, requestId?: string): string {
  return renderPage({
    title: `${title} – ${publicUrl.hostname}`,
    narrow: true,
    body: html`<h1>${title}</h1>
      <p>${advice}</p>
      ${requestId !== undefined && html`<p class="soft">Request <code>${requestId}</code></p>`}
      <p>
        <a href="${publicUrl.href}">Start page</a> ·
        <a href="${new URL('access', publicUrl).href}">Your access</a>
      </p>`,
  });
}
