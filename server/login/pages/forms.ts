import { createHmac } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import type { FastifyInstance } from 'fastify';
import { equalInConstantTime } from '../../../base/constant-time.ts';

/** The fields of a submitted form, each once. */
export type Form = ReadonlyMap<string, string>;

/** A form is refused: it is from another site, or from a page of an earlier sign-in. */
export class FormRefusal extends Error {
  override readonly name = 'FormRefusal';
}

/** Lets the routes of `app` read forms. A field that comes twice makes the form unreadable. */
export function readForms(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(
    'application/x-www-form-urlencoded',
    { parseAs: 'string', bodyLimit: 16 * 1024 },
    (_request, body, done) => {
      const fields = [...new URLSearchParams(body as string)];
      const form = new Map(fields);
      if (form.size === fields.length) done(null, form);
      else done(Object.assign(new Error('a field comes twice'), { statusCode: 400 }));
    },
  );
}

/** Makes and checks the hidden field that proves a form to be from a page of ours. */
export class FormTokens {
  readonly #publicUrl: URL;
  readonly #secrets: () => readonly string[];

  /** `secrets`: the first makes tokens, all of them check. */
  constructor(publicUrl: URL, secrets: () => readonly string[]) {
    this.#publicUrl = publicUrl;
    this.#secrets = secrets;
  }

  /** The token for the forms of one sign-in. */
  of(signIn: string): string {
    return sign(this.#secrets()[0]!, signIn);
  }

  /** The fields of a form that the person has sent from a page of this sign-in. Throws `FormRefusal`. */
  check(request: { readonly headers: IncomingHttpHeaders; readonly body: unknown }, signIn: string): Form {
    if (isFromElsewhere(request.headers, this.#publicUrl.origin)) throw new FormRefusal('from another site');
    const form: Form = request.body instanceof Map ? (request.body as Form) : new Map<string, string>();
    const given = form.get('token') ?? '';
    if (!this.#secrets().some((secret) => equalInConstantTime(given, sign(secret, signIn))))
      throw new FormRefusal('the token is missing or of another sign-in');
    return form;
  }
}

/** Whether a browser says that a form comes from a page of another origin. Other programs say nothing. */
export function isFromElsewhere(
  { origin, 'sec-fetch-site': site }: IncomingHttpHeaders,
  ownOrigin: string,
): boolean {
  if (site !== undefined && site !== 'same-origin') return true;
  // Without a referrer, browsers say `null` (Fetch section 3.2).
  return origin !== undefined && origin !== 'null' && origin !== ownOrigin;
}

function sign(secret: string, signIn: string): string {
  return createHmac('sha256', secret).update(`form\0${signIn}`).digest('base64url');
}
