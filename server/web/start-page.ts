import { createHash } from 'node:crypto';
import type { Config } from '../config/config.ts';

const style = `
:root { color-scheme: light dark; --text: #1d2430; --soft: #5a6474; --paper: #fbfaf7; --edge: #dcd8cf; --code: #f1eee7; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e8e6e1; --soft: #a3a9b4; --paper: #16191f; --edge: #333945; --code: #20252e; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--text); font: 1.0625rem/1.6 system-ui, sans-serif; }
main { max-width: 42rem; margin: 0 auto; padding: 3rem 1.25rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 0.5rem; }
h2 { font-size: 1.125rem; margin: 2.25rem 0 0.5rem; }
p { margin: 0.5rem 0; }
.lead { color: var(--soft); }
pre { background: var(--code); border: 1px solid var(--edge); border-radius: 0.5rem; padding: 0.875rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere; }
code { font: 0.9375rem/1.5 ui-monospace, monospace; }
`;

/** The hash that lets exactly this style sheet in (CSP Level 3 §2.3.1). */
export const pageStyleSource = `sha256-${createHash('sha256').update(style).digest('base64')}`;

/** The page a person sees who opens the gateway's address: what this is, and how to connect. */
export function startPage(config: Config): string {
  const url = escapeHtml(config.publicUrl.href);
  const host = escapeHtml(config.publicUrl.hostname);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>SSH through ${host}</title>
<style>${style}</style>
</head>
<body>
<main>
<h1>SSH through ${host}</h1>
<p class="lead">This is a Postern gateway: it takes SSH to the machines behind it, by name, through this web server.
The SSH session stays between your client and the machine; the gateway sees only ciphertext.</p>

<h2>Set up once</h2>
<p>With the <code>postern</code> client installed, name the hosts you reach through this gateway:</p>
<pre><code>postern setup --gateway ${url} --host box --host '*.example'</code></pre>

<h2>Show your pass</h2>
<p>Keep the token you were given in a file that only you can read, and say where it is:</p>
<pre><code>export POSTERN_TOKEN_FILE=~/.config/postern/token</code></pre>

<h2>Connect</h2>
<pre><code>ssh box</code></pre>
<p>When something is in the way, the last line of the output says what, and <code>postern status</code> says it again.</p>
</main>
</body>
</html>
`;
}

function escapeHtml(text: string): string {
  return text.replaceAll(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}
