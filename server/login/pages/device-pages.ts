import { html, renderPage } from '../../web/page.ts';
import type { Html } from '../../web/page.ts';

/** What was wrong with a code that somebody typed. */
export type CodeProblem = 'unknown' | 'expired' | 'used' | 'refused' | 'locked' | 'failed';

interface Form {
  readonly action: string;
  readonly token: string;
}

const problems: Readonly<Record<CodeProblem, string>> = {
  unknown:
    'There is no such code. Look at the other machine again, and type the letters as they stand there.',
  expired: 'This code is too old. Ask for a new one on the other machine.',
  used: 'This code was used already. Ask for a new one on the other machine.',
  refused: 'You have refused. The other machine was told so.',
  locked: 'Too many wrong codes came from your network. Wait ten minutes, then try again.',
  failed: 'That did not work. Ask for a new code on the other machine.',
};

/** Where the code that another machine shows is typed. */
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
      <p class="lead">Type the code that <code>postern login --device</code> shows there.</p>
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
      Nobody from support will ever send you a code. Type one only if you see it on a machine of yours.
    </p>`;
}

/** Who asks and from where; the last chance to say no. */
export function deviceConfirmPage(page: {
  readonly publicUrl: URL;
  readonly form: Form;
  readonly info: { readonly remoteAddress: string; readonly agent: string };
  readonly code: string;
}): string {
  const { publicUrl, form, info, code } = page;
  return renderPage({
    title: `Let it in? – ${publicUrl.hostname}`,
    narrow: true,
    body: html`<h1>Let this machine in?</h1>
      <p class="lead">A program on another machine wants to connect as you.</p>
      <dl class="facts">
        <dt>Code</dt>
        <dd><code>${code}</code></dd>
        <dt>Asked from</dt>
        <dd><code>${info.remoteAddress}</code></dd>
        <dt>Calls itself</dt>
        <dd><code>${info.agent === '' ? 'nothing' : info.agent}</code></dd>
      </dl>
      <p>If you did not start this yourself, just now, somebody is trying to get in with your name.</p>
      <form method="post" action="${form.action}">
        <input type="hidden" name="xsrf" value="${form.token}" />
        <input type="hidden" name="user_code" value="${code}" />
        <button name="confirm" value="yes">I started this: let it in</button>
        <button class="second" name="abort" value="yes">Refuse</button>
      </form>`,
  });
}

/** The other machine may go on. */
export function deviceDonePage(publicUrl: URL): string {
  return renderPage({
    title: `Signed in – ${publicUrl.hostname}`,
    narrow: true,
    body: html`<h1>The other machine is signed in</h1>
      <p>
        You can close this page. To see or end its sign-in, open
        <a href="${new URL('access', publicUrl).href}">your access</a>.
      </p>`,
  });
}
