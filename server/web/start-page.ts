import type { Config } from '../config/config.ts';
import { command, html, renderPage } from './page.ts';

/** The page a person sees who opens the gateway's address: what this is, and how to connect. */
export function startPage({ publicUrl }: Pick<Config, 'publicUrl'>): string {
  const url = publicUrl.href;
  const host = publicUrl.hostname;
  return renderPage({
    title: `SSH through ${host}`,
    body: html`<h1>SSH through ${host}</h1>
      <p class="lead">
        This is a Postern gateway: it takes SSH to the machines behind it, by name, through this web server.
        The SSH session stays between your client and the machine; the gateway sees only ciphertext.
      </p>
      <p><a class="button inline" href="${new URL('access', publicUrl).href}">Your access</a></p>

      <h2>Set up once</h2>
      <p>With the <code>postern</code> client installed, name the hosts you reach through this gateway:</p>
      ${command(`postern setup --gateway ${url} --host box --host '*.example'`)}
      <p class="soft">Your access shows this line with the hosts that you may reach.</p>

      <h2>Sign in</h2>
      ${command(`postern login ${url}`)}
      <p>It opens this browser. Services and scripts show a token instead:</p>
      ${command('export POSTERN_TOKEN_FILE=~/.config/postern/token')}

      <h2>Connect</h2>
      ${command('ssh box')}
      <p>
        When something is in the way, the last line of the output says what, and
        <code>postern status</code> says it again.
      </p>`,
  });
}
