import type { Config } from '../config/config.ts';
import { command, html, renderPage } from './page.ts';

/** The page at the gateway's address: what it is, and how to connect. */
export function startPage({ publicUrl }: Pick<Config, 'publicUrl'>): string {
  const url = publicUrl.href;
  const host = publicUrl.hostname;
  return renderPage({
    title: `SSH through ${host}`,
    body: html`<h1>SSH through ${host}</h1>
      <p class="lead">
        This is a Postern gateway: it carries SSH to the machines behind it, by name, through this web server.
        Your SSH session is encrypted end to end; the gateway sees only ciphertext.
      </p>
      <p><a class="button inline" href="${new URL('access', publicUrl).href}">Your access</a></p>

      <h2>Set up once</h2>
      <p>Install the <code>postern</code> client, then name the hosts to reach through this gateway:</p>
      ${command(`postern setup --gateway ${url} --host box --host '*.example'`)}
      <p class="soft">The page “Your access” shows this command with the hosts you can reach.</p>

      <h2>Sign in</h2>
      ${command(`postern login ${url}`)}
      <p>This opens your browser. For services and scripts, use a token:</p>
      ${command('export POSTERN_TOKEN_FILE=~/.config/postern/token')}

      <h2>Connect</h2>
      ${command('ssh box')}
      <p>
        If something goes wrong, the last line of the output names the cause.
        <code>postern status</code> repeats it.
      </p>`,
  });
}
