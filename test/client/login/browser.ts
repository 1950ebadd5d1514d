import { appendFileSync } from 'node:fs';

/** A browser that does what a person would: follows every redirection, fills in every form, and comes back. */
export class Browser {
  readonly #cookies = new Map<string, string>();

  /** Goes to `url` and on until there is nothing more to do; gives the last page. `stopAt` names a place not to go to. */
  async visit(
    url: string,
    options: { readonly code?: string; readonly stopAt?: string } = {},
  ): Promise<Page> {
    let at = new URL(url);
    let response = await this.#ask(at);
    for (let steps = 0; steps < 30; steps++) {
      const location = response.headers.get('location');
      if (location !== null) {
        at = new URL(location, at);
        if (options.stopAt !== undefined && at.href.startsWith(options.stopAt))
          return { url: at, text: '', status: 0 };
        response = await this.#ask(at);
        continue;
      }
      const text = await response.text();
      const form = readForm(text);
      if (form === undefined) return { url: at, text, status: response.status };
      at = new URL(form.action, at);
      const fields = {
        ...form.fields,
        login: 'alice',
        password: 'any',
        ...(options.code && { user_code: options.code }),
      };
      response = await this.#ask(at, new URLSearchParams(fields));
    }
    throw new Error('a browser that does not come to an end');
  }

  async #ask(url: URL, body?: URLSearchParams): Promise<Response> {
    const cookie = [...this.#cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    const response = await fetch(url, {
      method: body === undefined ? 'GET' : 'POST',
      redirect: 'manual',
      headers: { cookie, connection: 'close' },
      ...(body === undefined ? {} : { body }),
    });
    for (const line of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line)!;
      this.#cookies.set(name!, value!);
    }
    return response;
  }
}

/** What a browser shows in the end. */
export interface Page {
  readonly url: URL;
  readonly text: string;
  readonly status: number;
}

function readForm(page: string): { action: string; fields: Record<string, string> } | undefined {
  const [, action] = /<form[^>]*action="([^"]*)"/.exec(page) ?? [];
  if (action === undefined) return undefined;
  const fields = [...page.matchAll(/<input[^>]*type="hidden"[^>]*>/g)].map(([tag]): [string, string] => [
    /name="([^"]*)"/.exec(tag)![1]!,
    /value="([^"]*)"/.exec(tag)?.[1] ?? '',
  ]);
  return { action, fields: Object.fromEntries(fields) };
}

// As a program: `BROWSER="node browser.ts LOG %s"`; writes a line for each time that it is opened.
if (process.argv[1] === import.meta.filename) {
  const [log, url] = process.argv.slice(2);
  appendFileSync(log!, 'opened\n');
  const { text, status } = await new Browser().visit(url!);
  appendFileSync(log!, `${status} ${/<title>([^<]*)/.exec(text)?.[1]}\n`);
}
