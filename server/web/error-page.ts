import { html, renderPage } from './page.ts';

/** What went wrong, for a person: a headline, and what to do. */
export interface ErrorPageText {
  readonly title: string;
  readonly advice: string;
}

const fallback: ErrorPageText = {
  title: 'That did not work',
  advice:
    'Go back to where you came from and try again. If it happens again, tell whoever runs this gateway, with the time.',
};

/** The errors of OAuth (RFC 6749 §4.1.2.1) and our own, in words. */
const explanations: Readonly<Record<string, ErrorPageText>> = {
  access_denied: {
    title: 'You are not signed in',
    advice: 'The sign-in was refused. Begin again when you like.',
  },
  expired: {
    title: 'This sign-in is over',
    advice:
      'It took too long, was finished already, or was begun in another browser. Begin again: run postern login, or open your access.',
  },
  cookies: {
    title: 'Your browser keeps no cookies here',
    advice: 'Signing in needs one. Allow cookies for this address, then open your access again.',
  },
  form_stale: {
    title: 'This page was too old',
    advice: 'Nothing was changed. Open your access again and press the button there.',
  },
  invalid_client: {
    title: 'An unknown program asks',
    advice: 'This gateway signs people in for its own client only.',
  },
  invalid_redirect_uri: {
    title: 'This link leads somewhere else',
    advice:
      'It would have sent your sign-in to a place that is not the postern client on your machine. Do not use it again.',
  },
  invalid_request: {
    title: 'This link is not complete',
    advice: 'Begin again: run postern login, or open your access.',
  },
  not_found: { title: 'There is nothing here', advice: 'Check the address, or begin at the start page.' },
  provider_down: {
    title: 'The identity provider does not answer',
    advice: 'Nothing is wrong with your account. Try again in a minute. Who is signed in stays signed in.',
  },
  provider_refused: {
    title: 'The identity provider did not sign you in',
    advice: 'Begin again. If it happens again, tell whoever runs this gateway, with the time.',
  },
  subject_unusable: {
    title: 'This name cannot be used here',
    advice: 'The identity provider sent a name that this gateway cannot take. Tell whoever runs it.',
  },
  too_many_requests: {
    title: 'Too many at once',
    advice: 'Many sign-ins were begun from your network. Wait a minute, then begin again.',
  },
  server_error: {
    title: 'The gateway failed',
    advice: 'Try again in a minute. If it happens again, tell whoever runs this gateway, with the time.',
  },
};

/** What a code means to a person. */
export function explainError(code: string): ErrorPageText {
  if (code === 'session_not_found') return explanations['expired']!;
  return (Object.hasOwn(explanations, code) ? explanations[code] : undefined) ?? fallback;
}

/** A page that says what went wrong and where to go from here. */
export function errorPage({ title, advice }: ErrorPageText, publicUrl: URL): string {
  return renderPage({
    title: `${title} – ${publicUrl.hostname}`,
    narrow: true,
    body: html`<h1>${title}</h1>
      <p>${advice}</p>
      <p>
        <a href="${publicUrl.href}">Start page</a> ·
        <a href="${new URL('access', publicUrl).href}">Your access</a>
      </p>`,
  });
}
