import { createHash } from 'node:crypto';

const style = `
:root { color-scheme: light dark; --text: #1d2430; --soft: #5a6474; --paper: #fbfaf7; --edge: #dcd8cf; --code: #f1eee7;
  --field: #fff; --field-edge: #8a8f99; --accent: #1f4e79; --on-accent: #fff; --bad: #9c1c1c; --bad-paper: #fbeceb; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e8e6e1; --soft: #a3a9b4; --paper: #16191f; --edge: #333945; --code: #20252e;
    --field: #20252e; --field-edge: #737b88; --accent: #8db8e8; --on-accent: #10141a; --bad: #ffb1a8; --bad-paper: #3a1f1f; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--text); font: 1.0625rem/1.6 system-ui, sans-serif; }
main { max-width: 42rem; margin: 0 auto; padding: 3rem 1.25rem; }
main.narrow { max-width: 27rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 0.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.125rem; margin: 2.25rem 0 0.5rem; }
p { margin: 0.5rem 0; }
a { color: var(--accent); }
.lead, .soft { color: var(--soft); }
.soft { font-size: 0.9375rem; }
pre { background: var(--code); border: 1px solid var(--edge); border-radius: 0.5rem; padding: 0.875rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.keep { white-space: nowrap; }
.notice pre { background: var(--field); margin-bottom: 0.25rem; }
code { font: 0.9375rem/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
label { display: block; font-weight: 600; margin: 1rem 0 0.25rem; }
label small { font-weight: 400; color: var(--soft); }
input, select { width: 100%; font: inherit; padding: 0.5rem 0.75rem; color: var(--text); background: var(--field); border: 1px solid var(--field-edge); border-radius: 0.375rem; }
input.code { font: 1.5rem/1.5 ui-monospace, monospace; letter-spacing: 0.1em; text-transform: uppercase; text-align: center; }
button, a.button { display: inline-block; width: 100%; margin: 1.25rem 0 0; padding: 0.5625rem 1.25rem; font: inherit; font-weight: 600; text-align: center; text-decoration: none; cursor: pointer;
  color: var(--on-accent); background: var(--accent); border: 1px solid var(--accent); border-radius: 0.375rem; }
a.button { margin-top: 0.75rem; }
a.inline { width: auto; }
button.second, a.second { color: var(--text); background: transparent; border-color: var(--field-edge); }
button.second { margin-top: 0.75rem; }
button.small { width: auto; margin: 0; padding: 0.1875rem 0.75rem; font-size: 0.9375rem; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.or { display: flex; align-items: center; gap: 0.75rem; margin: 1.5rem 0 0.75rem; color: var(--soft); font-size: 0.9375rem; }
.or::before, .or::after { content: ""; flex: 1; border-top: 1px solid var(--edge); }
.problem { margin: 1rem 0; padding: 0.625rem 0.875rem; color: var(--bad); background: var(--bad-paper); border: 1px solid currentColor; border-radius: 0.375rem; }
.notice { margin: 1rem 0; padding: 0.625rem 0.875rem; background: var(--code); border: 1px solid var(--edge); border-radius: 0.375rem; }
.facts { display: grid; grid-template-columns: auto 1fr; gap: 0.25rem 1rem; margin: 1rem 0; }
.facts dt { color: var(--soft); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
.rows { list-style: none; margin: 0.5rem 0; padding: 0; }
.rows li { display: flex; align-items: center; justify-content: space-between; gap: 1rem; padding: 0.625rem 0; border-top: 1px solid var(--edge); }
.rows li:last-child { border-bottom: 1px solid var(--edge); }
.rows span { display: block; overflow-wrap: anywhere; min-width: 0; }
.names { display: flex; flex-wrap: wrap; gap: 0.375rem; list-style: none; margin: 0.5rem 0; padding: 0; }
.names li { padding: 0.125rem 0.5rem; background: var(--code); border: 1px solid var(--edge); border-radius: 0.375rem; }
.head { display: flex; flex-wrap: wrap; align-items: baseline; justify-content: space-between; gap: 0.25rem 1rem; }
@media (min-width: 40rem) {
  .line { display: flex; gap: 0.75rem; align-items: end; }
  .line > * { flex: 1; }
  .line button { flex: none; width: auto; }
}
@media (max-width: 30rem) { main { padding: 1.75rem 1rem; } }
`;

/** The hash that lets exactly this style sheet in (CSP Level 3 section 2.3.1). */
const styleSource = `'sha256-${createHash('sha256').update(style).digest('base64')}'`;

/** Text that is HTML already; only `html` makes it. */
export class Html {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  toString(): string {
    return this.#text;
  }
}

type Part = Html | string | number | false | undefined | readonly Part[];

/** Builds HTML from a template; everything that is not `Html` itself becomes text. `false` and `undefined` are nothing. */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  return new Html(strings.map((text, at) => text + (at < parts.length ? render(parts[at]) : '')).join(''));
}

function render(part: Part): string {
  if (part === undefined || part === false) return '';
  if (part instanceof Html) return part.toString();
  if (typeof part === 'object') return part.map(render).join('');
  return String(part).replaceAll(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** Lines to copy, which a narrow page breaks between words, never inside an option. */
export function command(text: string): Html {
  const words = text
    .split(/(\s+)/)
    .map((word) => (word.startsWith('-') ? html`<span class="keep">${word}</span>` : word));
  return html`<pre><code>${words}</code></pre>`;
}

export interface Page {
  readonly title: string;
  readonly body: Html;
  /** A page of one short form. */
  readonly narrow?: boolean;
}

/** A whole document. It needs no scripts and loads nothing. */
export function renderPage({ title, body, narrow }: Page): string {
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>${title}</title>
<style>${new Html(style)}</style>
</head>
<body>
<main${narrow === true && new Html(' class="narrow"')}>
${body}
</main>
</body>
</html>
`.toString();
}

/** The headers of every page. `formTargets`: the origins that its forms can lead to, redirects included; absent: it has no forms. */
export function pageHeaders(formTargets: readonly string[] = []): Readonly<Record<string, string>> {
  const formAction = formTargets.length === 0 ? "'none'" : formTargets.join(' ');
  return {
    'Content-Security-Policy': `default-src 'none'; style-src ${styleSource}; base-uri 'none'; form-action ${formAction}; frame-ancestors 'none'`,
    'X-Frame-Options': 'DENY',
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Permissions-Policy': 'camera=(), geolocation=(), microphone=()',
    'Cache-Control': 'no-store',
  };
}
