import { rmSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import type { Egress } from '../egress/egress.ts';
import { writeStderr } from '../errors/report.ts';
import { ClientError } from '../errors/failure.ts';
import { reason, writePrivate } from '../os/files.ts';
import { LockFile } from '../os/lock-file.ts';
import { printable } from '../os/printable.ts';
import { findAuthorizationServer } from '../oauth/authorization-server.ts';
import { openBrowser } from './open-browser.ts';
import type { BrowserSettings } from './open-browser.ts';
import { signInByBrowser } from './authorization-code-flow.ts';
import { readClaims } from '../oauth/unverified-claims.ts';
import { signInByDevice } from './device-flow.ts';
import { makeProofKey } from '../oauth/dpop.ts';
import { withRenewalLock } from '../credentials/refresh.ts';
import { readSecretFile } from '../credentials/secret-file.ts';
import { readSignIn, signInDirectory, writeSignIn } from '../credentials/session-store.ts';
import type { SavedSession } from '../credentials/session-store.ts';

const browserMs = 120_000;
const deviceMs = 600_000;
/** Longer than any sign-in takes: the limit of waiting for one, and of trusting a holder that cannot be identified (another machine). */
const patienceMs = deviceMs + 60_000;

/** How to sign in. */
export interface SignInRequest {
  readonly state: string;
  readonly gateway: URL;
  readonly egress: Egress;
  readonly device: boolean;
  /** Absent: only print the URL. */
  readonly browser?: BrowserSettings;
  /** What a hangup means: with `leave` that nobody is waiting any more; ssh may just have lost its patience. */
  readonly hangup: 'leave' | 'finish';
  /** What to end up with: one that is made after this call, or any. */
  readonly wanted: 'a new sign-in' | 'a sign-in';
}

/**
 * Signs in at a gateway and keeps the result. Of several processes that want to, one does; the others show its URL and
 * wait for it. Throws `SIGN_IN_FAILED`, `SIGN_IN_TIMEOUT`, `CONFIG_INVALID` and what `ask` throws.
 */
export async function signInOnce(request: SignInRequest): Promise<SavedSession> {
  const directory = signInDirectory(request.state, request.gateway);
  const turn = new LoginLock(directory);
  const before = request.wanted === 'a new sign-in' ? usable(request)?.key.thumbprint : undefined;
  const finished = (): SavedSession | undefined => {
    const now = usable(request);
    return now?.key.thumbprint === before ? undefined : now;
  };
  const waited = await turn.take(() => finished() !== undefined);
  // Also with the turn taken at once: somebody may have finished just before that, or since the caller looked.
  const byAnother = finished();
  if (waited === 'not needed' && byAnother !== undefined) return byAnother;
  // A holder that dies has not given up.
  if (byAnother !== undefined || (waited === 'waited' && !turn.tookOver)) {
    turn.end();
    if (byAnother !== undefined) return byAnother;
    throw new ClientError('SIGN_IN_FAILED', 'the sign-in that was under way did not come to an end');
  }
  return turn.hold(request.hangup, () => signInNow(request, turn));
}

async function signInNow(request: SignInRequest, turn: LoginLock): Promise<SavedSession> {
  const { state, gateway, egress, device, browser } = request;
  const signal = AbortSignal.timeout(device ? deviceMs : browserMs);
  const invite = (url: URL, code?: string): void => {
    turn.publish(url, code);
    const opened = code === undefined && browser !== undefined && openBrowser(url, browser);
    writeStderr(invitation(url, { code, opened }));
  };
  try {
    const server = await findAuthorizationServer(gateway, egress, signal);
    const { key, privateJwk } = makeProofKey();
    const ways = { egress, key, signal, invite };
    const tokens = await (device ? signInByDevice(server, ways) : signInByBrowser(server, ways));
    const { issuer, clientId, tokenEndpoint, revocationEndpoint } = server;
    const signIn: SavedSession = {
      gateway: gateway.href,
      issuer,
      clientId,
      tokenEndpoint,
      ...(revocationEndpoint === undefined ? {} : { revocationEndpoint }),
      accessToken: tokens.accessToken,
      ...(tokens.refreshToken === undefined ? {} : { refreshToken: tokens.refreshToken }),
      renewAt: tokens.renewAt,
      expiresAt: tokens.expiresAt,
      clockOffsetMs: tokens.clockOffsetMs,
      key,
    };
    const directory = signInDirectory(state, gateway);
    await withRenewalLock(directory, AbortSignal.timeout(30_000), async () =>
      writeSignIn(directory, signIn, privateJwk),
    );
    const subject = readClaims(signIn.accessToken)?.subject;
    writeStderr(`postern: signed in${subject === undefined ? '' : ` as ${printable(subject)}`}\n`);
    return signIn;
  } catch (error) {
    if (signal.aborted && !(error instanceof ClientError && error.code === 'SIGN_IN_FAILED'))
      throw new ClientError('SIGN_IN_TIMEOUT', 'nobody signed in in time', {
        cause: error,
        hint: 'postern login',
      });
    throw error;
  }
}

function invitation(url: URL, how: { readonly code: string | undefined; readonly opened: boolean }): string {
  // A URL holds no characters that a terminal could misread, and it has to be whole.
  if (how.code !== undefined) return `postern: to sign in, open ${url.href} and type the code ${how.code}\n`;
  const what = how.opened
    ? 'sign in with your browser; if none opens, open'
    : 'to sign in, open on this machine';
  return `postern: ${what}\n${url.href}\n`;
}

function usable({ state, gateway }: SignInRequest): SavedSession | undefined {
  try {
    return readSignIn(state, gateway);
  } catch {
    // What cannot be used now is what this sign-in puts right.
    return undefined;
  }
}

/** The right to sign in, which one process has at a time, and the URL it is waiting at. */
class LoginLock {
  readonly #directory: string;
  readonly #lock: LockFile;
  readonly #urlPath: string;

  constructor(directory: string) {
    this.#directory = directory;
    this.#lock = new LockFile(join(directory, 'sign-in.lock'), patienceMs);
    this.#urlPath = join(directory, 'sign-in.url');
  }

  /** Whether the one whose turn it was went away without an end. */
  get tookOver(): boolean {
    return this.#lock.tookOver;
  }

  /** Waits for the turn, or until it is not needed any more. */
  async take(isFinished: () => boolean): Promise<'at once' | 'waited' | 'not needed'> {
    const signal = AbortSignal.timeout(patienceMs);
    let waited = false;
    let shown: string | undefined;
    while (!this.#try()) {
      waited = true;
      shown = this.#show(shown);
      await this.#lock.pause(signal).catch((cause: unknown) => {
        throw new ClientError('SIGN_IN_TIMEOUT', 'another postern does not finish signing in', { cause });
      });
      if (isFinished()) return 'not needed';
    }
    return waited ? 'waited' : 'at once';
  }

  /** Tells those who wait where to go. */
  publish(url: URL, code?: string): void {
    writePrivate(this.#urlPath, JSON.stringify({ url: url.href, ...(code === undefined ? {} : { code }) }));
  }

  /** Runs `work` with the turn, and ends it also when a signal ends this process. */
  async hold<T>(hangup: 'leave' | 'finish', work: () => Promise<T>): Promise<T> {
    let hungUp = false;
    const leave = (signal: NodeJS.Signals): void => {
      if (signal === 'SIGHUP' && hangup === 'finish') {
        hungUp = true;
        return;
      }
      this.end();
      process.exit(128 + constants.signals[signal]);
    };
    const signals = ['SIGHUP', 'SIGINT', 'SIGTERM'] as const;
    for (const signal of signals) process.on(signal, leave);
    try {
      // That of a holder which has gone leads nowhere.
      rmSync(this.#urlPath, { force: true });
      return await work();
    } finally {
      for (const signal of signals) process.off(signal, leave);
      this.end();
      if (hungUp) process.exit(128 + constants.signals.SIGHUP);
    }
  }

  /** Gives the turn back, and leaves nothing behind. */
  end(): void {
    rmSync(this.#urlPath, { force: true });
    this.#lock.release();
  }

  #try(): boolean {
    try {
      return this.#lock.take();
    } catch (cause) {
      throw new ClientError(
        'CONFIG_INVALID',
        `cannot keep a sign-in in ${this.#directory}: ${reason(cause)}`,
        {
          cause,
        },
      );
    }
  }

  /** Shows the URL of who is signing in, once it is there, unless it was shown before; says which was last. */
  #show(shown: string | undefined): string | undefined {
    let value: unknown;
    try {
      value = JSON.parse(readSecretFile(this.#urlPath) ?? '');
    } catch {
      return shown;
    }
    const { url, code } = (value ?? {}) as Readonly<Record<string, unknown>>;
    if (typeof url !== 'string' || !URL.canParse(url)) return shown;
    const { href } = new URL(url);
    if (href === shown) return shown;
    const typed = typeof code === 'string' ? ` and type the code ${printable(code)}` : '';
    writeStderr(`postern: a sign-in is under way; open${typed === '' ? '\n' : ' '}${href}${typed}\n`);
    return href;
  }
}
