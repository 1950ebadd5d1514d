import { html, renderPage } from '../../web/page.ts';
import type { Html } from '../../web/page.ts';

/** What the person signs in for. */
export type Purpose = 'pages' | 'program' | 'device';

/** Why the form is shown again. */
export type SignInProblem =
  | { readonly kind: 'invalid' }
  | { readonly kind: 'busy' }
  | { readonly kind: 'locked'; readonly retryAfterMs: number };

export interface SignInPage {
  readonly publicUrl: URL;
  /** Where the forms go; the parts of a sign-in are below it. */
  readonly action: string;
  readonly token: string;
  readonly purpose: Purpose;
  readonly accounts: boolean;
  readonly providers: readonly { readonly name: string; readonly title: string }[];
  readonly problem?: SignInProblem;
  /** The name that was entered, after a refusal. */
  readonly name?: string;
}

const leads: Readonly<Record<Purpose, string>> = {
  pages: 'to see the hosts you can reach',
  program: 'to let the postern program on this computer connect as you',
  device: 'to let the program on the other machine connect as you',
};

/** The page where people sign in: with a provider, with an account of the gateway, or either. */
export function signInPage(page: SignInPage): string {
  const { publicUrl, purpose, accounts, providers } = page;
  return renderPage({
    title: `Sign in – ${publicUrl.hostname}`,
    narrow: true,
    body: html`<h1>Sign in</h1>
      <p class="lead">Sign in to <strong>${publicUrl.hostname}</strong> ${leads[purpose]}.</p>
      ${providers.map(
        ({ name, title }) =>
          html`<a class="button${accounts && ' second'}" href="${page.action}/with/${name}"
            >Continue with ${title}</a
          > `,
      )}
      ${accounts && providers.length > 0 && html`<p class="or">or with an account on this gateway</p>`}
      ${accounts && accountForm(page)}
      ${!accounts && providers.length === 0 && html`<p class="problem">Signing in is not possible here: this gateway has neither accounts nor an identity provider.</p>`}`,
  });
}

function accountForm({ action, token, problem, name = '' }: SignInPage): Html {
  const invalid = problem && html` aria-invalid="true" aria-describedby="problem"`;
  return html`${problem && html`<p class="problem" role="alert" id="problem">${problemText(problem)}</p>`}
    <form method="post" action="${action}">
      <input type="hidden" name="token" value="${token}" />
      <label for="name">Name</label>
      <input
        id="name"
        name="name"
        value="${name}"
        required${name === '' && html` autofocus`}
        autocomplete="username"
        autocapitalize="none"
        spellcheck="false"
        maxlength="64"
        ${invalid}
      />
      <label for="password">Password</label>
      <input
        id="password"
        name="password"
        type="password"
        required${name !== '' && html` autofocus`}
        autocomplete="current-password"
        maxlength="1024"
        ${invalid}
      />
      <label for="code">One-time code <small>if your account uses one</small></label>
      <input
        id="code"
        name="code"
        inputmode="numeric"
        autocomplete="one-time-code"
        maxlength="10"
        ${invalid}
      />
      <button>Sign in</button>
    </form>`;
}

function problemText(problem: SignInProblem): string {
  if (problem.kind === 'busy')
    return 'Many people are signing in at the moment. Nothing was checked; try again in a few seconds.';
  if (problem.kind === 'invalid') return 'The name, password or one-time code is incorrect.';
  const minutes = Math.ceil(problem.retryAfterMs / 60_000);
  return `Too many attempts. Try again in ${minutes === 1 ? 'a minute' : `${minutes} minutes`}.`;
}

/** Asks a person who is signed in whether a program on their computer can connect as them. */
export function consentPage(page: {
  readonly publicUrl: URL;
  readonly action: string;
  readonly token: string;
  readonly subject: string;
}): string {
  const { publicUrl, action, token, subject } = page;
  const form = (part: string, button: Html): Html =>
    html`<form method="post" action="${action}/${part}">
      <input type="hidden" name="token" value="${token}" />
      ${button}
    </form>`;
  return renderPage({
    title: `Allow postern? – ${publicUrl.hostname}`,
    narrow: true,
    body: html`<h1>Allow postern to connect as you?</h1>
      <p class="lead">
        The <code>postern</code> program on this computer wants to open SSH connections through
        <strong>${publicUrl.hostname}</strong> as you.
      </p>
      <dl class="facts">
        <dt>Signed in as</dt>
        <dd><strong>${subject}</strong></dd>
      </dl>
      <p class="soft">
        Allow this only if you have just run <code>postern login</code> or <code>ssh</code> yourself.
      </p>
      ${form('allow', html`<button>Allow</button>`)}
      ${form('refuse', html`<button class="second">Deny</button>`)}
      ${form('other', html`<button class="second">Sign in as someone else</button>`)}`,
  });
}

/** The browser is signed out. */
export function signedOutPage(publicUrl: URL): string {
  return renderPage({
    title: `Signed out – ${publicUrl.hostname}`,
    narrow: true,
    body: html`<h1>You are signed out</h1>
      <p>
        Signing out of this browser does not sign out programs. The page
        <a href="${new URL('access', publicUrl).href}">Your access</a> lists them; you can sign them out
        there.
      </p>
      <p><a href="${publicUrl.href}">Start page</a></p>`,
  });
}
