import type { KoaContextWithOIDC } from 'oidc-provider';
import { z } from 'zod';
import type { RemoteAddress } from '../../http/client-address.ts';
import type { Store } from '../../store/store.ts';
import { deviceCodePage, deviceConfirmPage, deviceDonePage } from '../pages/device-pages.ts';
import type { CodeProblem } from '../pages/device-pages.ts';
import { pageHeaders } from '../../web/page.ts';
import { network } from '../accounts/login-throttle.ts';

/** The device that a code was issued to. */
export interface DeviceInfo {
  readonly remoteAddress: string;
  /** The name that its program gives itself; it proves nothing. */
  readonly agent: string;
}

interface Parts {
  readonly publicUrl: URL;
  readonly store: Store;
  readonly remoteAddress: RemoteAddress;
  /** The wall clock, in milliseconds since 1970. */
  readonly now?: () => number;
}

/** Wrong codes allowed to one address in that time: with 20^8 codes, none can be guessed (RFC 8628 section 5.1). */
const maxTries = 5;
const triesMs = 600_000;

/** The pages on which a person lets a program on another machine connect, and the count of wrong codes. */
export class DeviceCodes {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  infoOf(context: KoaContextWithOIDC): { [name in keyof DeviceInfo]: string } {
    const agent = context.get('user-agent').replaceAll(/[^\x20-\x7e]/g, '');
    return { remoteAddress: this.#parts.remoteAddress(context.req), agent: agent.slice(0, 120) };
  }

  /** Middleware for the path of the pages. */
  async guard(context: KoaContextWithOIDC, next: () => Promise<void>): Promise<void> {
    if (context.method !== 'POST') {
      // A link that carries the code would let people approve a code that they never saw (RFC 8628 section 5.4).
      context.querystring = '';
      return next();
    }
    const attempts = this.#parts.store.table('deviceCodeAttempts', z.number());
    const key = network(this.#parts.remoteAddress(context.req));
    // Counted before the code is checked, so that a thousand guesses at the same time count as a thousand.
    const expiresAt = (this.#parts.now ?? Date.now)() + triesMs;
    const tries = await attempts.update(key, count(1), { expiresAt });
    if ((tries ?? 0) > maxTries) {
      context.set('Retry-After', String(triesMs / 1000));
      return this.#show(
        context,
        429,
        deviceCodePage({ publicUrl: this.#parts.publicUrl, problem: 'locked' }),
      );
    }
    await next();
    if (context.state['wrongCode'] !== true) await attempts.update(key, count(-1));
  }

  showCodeForm(context: KoaContextWithOIDC, error: Error | undefined): void {
    const problem = problemOf(error);
    context.state['wrongCode'] = problem === 'unknown';
    const page = { publicUrl: this.#parts.publicUrl, form: formOf(context), ...(problem && { problem }) };
    this.#show(context, error ? 422 : 200, deviceCodePage(page));
  }

  showConfirmation(context: KoaContextWithOIDC, info: unknown, code: string): void {
    const page = { publicUrl: this.#parts.publicUrl, form: formOf(context), info: info as DeviceInfo, code };
    this.#show(context, 200, deviceConfirmPage(page));
  }

  showDone(context: KoaContextWithOIDC): void {
    this.#show(context, 200, deviceDonePage(this.#parts.publicUrl));
  }

  #show(context: KoaContextWithOIDC, status: number, page: string): void {
    context.status = status;
    context.set(pageHeaders(["'self'"]));
    context.type = 'html';
    context.body = page;
  }
}

/** Changes a count in the store. */
function count(step: number): (tries: number | undefined) => number {
  return (tries = 0) => tries + step;
}

function formOf(context: KoaContextWithOIDC): { action: string; token: string } {
  const { secret: token = '' } = (context.oidc.session?.state ?? {}) as { secret?: string };
  return { action: context.oidc.urlFor('code_verification'), token };
}

const problems: Readonly<Record<string, CodeProblem>> = {
  NoCodeError: 'unknown',
  NotFoundError: 'unknown',
  ExpiredError: 'expired',
  AlreadyUsedError: 'used',
  AbortedError: 'refused',
};

function problemOf(error: Error | undefined): CodeProblem | undefined {
  return error && (problems[error.name] ?? 'failed');
}
