import { html, renderPage } from '../../web/page.ts';
import type { Html } from '../../web/page.ts';

/** What was wrong with a code that was entered. */
export type CodeProblem = 'unknown' | 'expired' | 'used' | 'refused' | 'locked' | 'failed';

interface Form {
  readonly action: string;
  readonly token: string;
}

const problems: Readonly<Record<CodeProblem, string>> = {
  unknown: 'That code is not valid. Check the other machine and enter the code exactly as shown.',
  expired: 'This code has expired. Request a new one on the other machine.',
  used: 'This code has already been used. Request a new one on the other machine.',
  refused: 'You denied the request. The other machine has been notified.',
  locked: 'Too many wrong codes from your network. Wait ten minutes, then try again.',
  failed: 'Something went wrong. Request a new code on the other machine.',
};

/** The form for the code that another machine shows. */
export function deviceCodePage(page: {
  readonly publicUrl: URL;
  readonly form?: Form;
  readonly problem?: CodeProblem;
}): string {
  const { publicUrl, form, problem } = page;
  return renderPage({
    title: `Sign in another machine – ${publicUrl.hostname}`,
    narrow: true,
    body: html`<h1>Sign in another machine</h1>
      <p class="lead">Enter the code that <code class="keep">postern login --device</code> shows there.</p>
      ${problem && html`<p class="problem" role="alert" id="problem">${problems[problem]}</p>`}
      ${form && codeForm(form, problem)}`,
  });
}

function codeForm({ action, token }: Form, problem: CodeProblem | undefined): Html {
  return html`<form method="post" action="${action}">
      <input type="hidden" name="xsrf" value="${token}" />
      <label for="code">Code</label>
      <input
        class="code"
        id="code"
        name="user_code"
        required
        autofocus
        autocomplete="off"
        autocapitalize="characters"
        spellcheck="false"
        maxlength="20"
        ${problem && html` aria-invalid="true" aria-describedby="problem"`}
      />
      <button>Continue</button>
    </form>
    <p class="soft">
      Support staff will never send you a code. Enter a code only if you see it on a machine of your own.
    </p>`;
}

/** The program that asks and where from: the last opportunity to deny it. */
export function deviceConfirmPage(page: {
  readonly publicUrl: URL;
  readonly form: Form;
  readonly info: { readonly remoteAddress: string; readonly agent: string };
  readonly code: string;
}): string {
  const { publicUrl, form, info, code } = page;
  return renderPage({
    title: `Allow this machine? – ${publicUrl.hostname}`,
    narrow: true,
    body: html`<h1>Allow this machine to connect as you?</h1>
      <p class="lead">A program on another machine is asking for access.</p>
      <dl class="facts">
        <dt>Code</dt>
        <dd><code>${code}</code></dd>
        <dt>Address</dt>
        <dd><code>${info.remoteAddress}</code></dd>
        <dt>Program</dt>
        <dd><code>${info.agent === '' ? 'unknown' : info.agent}</code></dd>
      </dl>
      <p>If you did not start this yourself just now, someone else is trying to sign in as you.</p>
      <form method="post" action="${form.action}">
        <input type="hidden" name="xsrf" value="${form.token}" />
        <input type="hidden" name="user_code" value="${code}" />
        <button name="confirm" value="yes">I started this: allow</button>
        <button class="second" name="abort" value="yes">Deny</button>
      </form>`,
  });
}

/** The other machine is signed in. */
export function deviceDonePage(publicUrl: URL): string {
  return renderPage({
    title: `Signed in – ${publicUrl.hostname}`,
    narrow: true,
    body: html`<h1>The other machine is signed in</h1>
      <p>
        You can close this page. To see or end the sign-in of that machine, open
        <a href="${new URL('access', publicUrl).href}">Your access</a>.
      </p>`,
  });
}
