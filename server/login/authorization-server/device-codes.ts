import { customerNetwork } from '../../net/cidr.ts';
import type { KoaContextWithOIDC } from 'oidc-provider';
import { z } from 'zod';
import type { RemoteAddress } from '../../http/client-address.ts';
import type { Store, Table } from '../../store/store.ts';
import { deviceCodePage, deviceConfirmPage, deviceDonePage } from '../pages/device-pages.ts';
import type { CodeProblem } from '../pages/device-pages.ts';
import { pageHeaders } from '../../web/page.ts';

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

  /**
   * Looks a code up for the browser of a request, and counts it if there is no such code. It is counted before that, so
   * that a thousand guesses at the same time count as a thousand, and taken back whatever else happens. Rejects with
   * `TooManyCodes` without looking when there were too many wrong ones.
   */
  async lookUp<T>(context: KoaContextWithOIDC, find: () => Promise<T | undefined>): Promise<T | undefined> {
    const key = customerNetwork(this.#parts.remoteAddress(context.req));
    if (!(await this.#begin(key))) throw new TooManyCodes();
    let isWrong = false;
    try {
      const found = await find();
      isWrong = found === undefined;
      return found;
    } finally {
      if (!isWrong) await this.#attempts.update(key, takenBack);
    }
  }

  /** Answers a request of a network with too many wrong codes behind it. Resolves to whether it did; counts nothing. */
  async refuseLocked(context: KoaContextWithOIDC): Promise<boolean> {
    const key = customerNetwork(this.#parts.remoteAddress(context.req));
    const isLocked = ((await this.#attempts.get(key)) ?? 0) >= maxTries;
    if (isLocked) this.showCodeForm(context, new TooManyCodes());
    return isLocked;
  }

  /** Counts an attempt; resolves to false when there are too many. Those beyond do not make the wait longer. */
  async #begin(key: string): Promise<boolean> {
    if (((await this.#attempts.get(key)) ?? 0) >= maxTries) return false;
    let isCounted = false;
    const count = (tries = 0): number => {
      isCounted = tries < maxTries;
      return isCounted ? tries + 1 : tries;
    };
    await this.#attempts.update(key, count, { expiresAt: (this.#parts.now ?? Date.now)() + triesMs });
    return isCounted;
  }

  get #attempts(): Table<number> {
    return this.#parts.store.table('deviceCodeAttempts', z.number());
  }

  showCodeForm(context: KoaContextWithOIDC, error: Error | undefined): void {
    const problem = problemOf(error);
    const isLocked = problem === 'locked';
    if (isLocked) context.set('Retry-After', String(triesMs / 1000));
    const page = {
      publicUrl: this.#parts.publicUrl,
      ...(!isLocked && { form: formOf(context) }),
      ...(problem && { problem }),
    };
    this.#show(context, statusOf(problem), deviceCodePage(page));
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

/** Too many wrong codes came from a network. It has the form of oidc-provider's own errors. */
class TooManyCodes extends Error {
  override readonly name = 'TooManyCodes';
  readonly expose = true;
  readonly statusCode = 429;

  constructor() {
    super('too_many_requests');
  }
}

function takenBack(tries: number | undefined): number | undefined {
  return tries === undefined || tries <= 1 ? undefined : tries - 1;
}

function statusOf(problem: CodeProblem | undefined): number {
  if (problem === undefined) return 200;
  if (problem === 'failed') return 400;
  return problem === 'locked' ? 429 : 422;
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
  TooManyCodes: 'locked',
};

function problemOf(error: Error | undefined): CodeProblem | undefined {
  return error && (problems[error.name] ?? 'failed');
}
