import { rmSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { definedOnly } from '../../base/defined-only.ts';
import type { Egress } from '../egress/egress.ts';
import { writeStderr } from '../errors/report.ts';
import { ClientError } from '../errors/failure.ts';
import { reason, writePrivate } from '../os/files.ts';
import { LockFile } from '../os/lock-file.ts';
import { printable } from '../os/terminal.ts';
import { findAuthorizationServer } from '../oauth/authorization-server.ts';
import type { AuthorizationServerMetadata } from '../oauth/authorization-server.ts';
import { openBrowser } from './open-browser.ts';
import type { BrowserSettings } from './open-browser.ts';
import { signInByBrowser } from './authorization-code-flow.ts';
import { readClaims } from '../oauth/unverified-claims.ts';
import { signInByDevice } from './device-flow.ts';
import { makeProofKey } from '../oauth/dpop.ts';
import type { ProofKey } from '../oauth/dpop.ts';
import type { IssuedTokens } from '../oauth/token-request.ts';
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
  /** The effect of SIGHUP: `leave` ends the sign-in; `finish` completes it first, since ssh can just have lost its patience. */
  readonly hangup: 'leave' | 'finish';
  /** Called at a SIGHUP that does not end the sign-in. */
  readonly onHangup?: () => void;
  /** The wanted result: a sign-in that is made after this call, or any. */
  readonly wanted: 'a new sign-in' | 'a sign-in';
}

/**
 * Signs in to a gateway and stores the result. Of several processes that want to, one signs in; the others show its URL
 * and wait for it. Throws `SIGN_IN_FAILED`, `SIGN_IN_TIMEOUT`, `CONFIG_INVALID` and as `requestJson`.
 */
export async function signInOnce(request: SignInRequest): Promise<SavedSession> {
  const directory = signInDirectory(request.state, request.gateway);
  const lock = new LoginLock(directory);
  const before = request.wanted === 'a new sign-in' ? usable(request)?.key.thumbprint : undefined;
  const finished = (): SavedSession | undefined => {
    const now = usable(request);
    return now?.key.thumbprint === before ? undefined : now;
  };
  const waited = await lock.acquire(() => finished() !== undefined);
  // Also with the lock acquired at once: another process can have finished just before, or since the caller checked.
  const byAnother = finished();
  if (waited === 'not needed' && byAnother !== undefined) return byAnother;
  // A holder that died has not given up: this process signs in then.
  if (byAnother !== undefined || (waited === 'waited' && !lock.tookOver)) {
    lock.end();
    if (byAnother !== undefined) return byAnother;
    throw new ClientError('SIGN_IN_FAILED', 'the sign-in that was under way was not completed');
  }
  return lock.hold(request, () => signInNow(request, lock));
}

async function signInNow(request: SignInRequest, lock: LoginLock): Promise<SavedSession> {
  const { state, gateway, egress, device, browser } = request;
  const signal = AbortSignal.timeout(device ? deviceMs : browserMs);
  const invite = (url: URL, code?: string): void => {
    lock.publish(url, code);
    const opened = code === undefined && browser !== undefined && openBrowser(url, browser);
    writeStderr(invitation(url, { code, opened }));
  };
  try {
    const server = await findAuthorizationServer(gateway, egress, signal);
    const { key, privateJwk } = makeProofKey();
    const options = { egress, key, signal, invite };
    const tokens = await (device ? signInByDevice(server, options) : signInByBrowser(server, options));
    const signIn = savedSession(gateway, server, { tokens, key });
    const directory = signInDirectory(state, gateway);
    await withRenewalLock(directory, AbortSignal.timeout(30_000), async () =>
      writeSignIn(directory, signIn, privateJwk),
    );
    const subject = readClaims(signIn.accessToken)?.subject;
    writeStderr(`postern: signed in${subject === undefined ? '' : ` as ${printable(subject)}`}\n`);
    return signIn;
  } catch (error) {
    if (signal.aborted && !(error instanceof ClientError && error.code === 'SIGN_IN_FAILED'))
      throw new ClientError('SIGN_IN_TIMEOUT', 'the sign-in was not completed in time', {
        cause: error,
        hint: 'postern login',
      });
    throw error;
  }
}

function savedSession(
  gateway: URL,
  { issuer, clientId, tokenEndpoint, revocationEndpoint }: AuthorizationServerMetadata,
  { tokens, key }: { readonly tokens: IssuedTokens; readonly key: ProofKey },
): SavedSession {
  const { accessToken, refreshToken, renewAt, expiresAt, clockOffsetMs } = tokens;
  return {
    gateway: gateway.href,
    issuer,
    clientId,
    tokenEndpoint,
    accessToken,
    renewAt,
    expiresAt,
    clockOffsetMs,
    key,
    ...definedOnly({ revocationEndpoint, refreshToken }),
  };
}

/** The lines that ask the person to sign in. */
function invitation(url: URL, how: { readonly code: string | undefined; readonly opened: boolean }): string {
  // A URL contains no characters that a terminal could misinterpret, and must be complete.
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
    // A stored sign-in that cannot be used is replaced by this one.
    return undefined;
  }
}

/** The lock of the sign-in, which one process holds at a time, with the URL that the holder waits at. */
class LoginLock {
  readonly #directory: string;
  readonly #lock: LockFile;
  readonly #urlPath: string;

  constructor(directory: string) {
    this.#directory = directory;
    this.#lock = new LockFile(join(directory, 'sign-in.lock'), patienceMs);
    this.#urlPath = join(directory, 'sign-in.url');
  }

  /** Whether the holder before this process ended without releasing the lock. */
  get tookOver(): boolean {
    return this.#lock.tookOver;
  }

  /** Waits for the lock, or until it is not needed any more. */
  async acquire(isFinished: () => boolean): Promise<'at once' | 'waited' | 'not needed'> {
    const signal = AbortSignal.timeout(patienceMs);
    let waited = false;
    let lastUrl: string | undefined;
    while (!this.#try()) {
      waited = true;
      lastUrl = this.#showUrl(lastUrl);
      await this.#lock.pause(signal).catch((cause: unknown) => {
        throw new ClientError('SIGN_IN_TIMEOUT', 'another postern process takes too long to sign in', {
          cause,
        });
      });
      if (isFinished()) return 'not needed';
    }
    return waited ? 'waited' : 'at once';
  }

  /** Publishes the URL to the processes that wait. */
  publish(url: URL, code?: string): void {
    writePrivate(this.#urlPath, JSON.stringify({ url: url.href, ...(code === undefined ? {} : { code }) }));
  }

  /** Runs `work` with the lock, and releases it also when a signal ends this process. */
  async hold<T>(
    { hangup, onHangup }: Pick<SignInRequest, 'hangup' | 'onHangup'>,
    work: () => Promise<T>,
  ): Promise<T> {
    let hungUp = false;
    const onSignal = (signal: NodeJS.Signals): void => {
      if (signal === 'SIGHUP' && hangup === 'finish') {
        hungUp = true;
        onHangup?.();
        return;
      }
      this.end();
      process.exit(128 + constants.signals[signal]);
    };
    const signals = ['SIGHUP', 'SIGINT', 'SIGTERM'] as const;
    for (const signal of signals) process.on(signal, onSignal);
    try {
      // The URL of a holder that died leads nowhere.
      rmSync(this.#urlPath, { force: true });
      return await work();
    } finally {
      for (const signal of signals) process.off(signal, onSignal);
      this.end();
      if (hungUp) process.exit(128 + constants.signals.SIGHUP);
    }
  }

  /** Releases the lock, and removes the URL. */
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

  /** Shows the URL of the holder once it is published, unless it is `lastUrl`. Returns the URL that was shown last. */
  #showUrl(lastUrl: string | undefined): string | undefined {
    let value: unknown;
    try {
      value = JSON.parse(readSecretFile(this.#urlPath) ?? '');
    } catch {
      return lastUrl;
    }
    const { url, code } = (value ?? {}) as Readonly<Record<string, unknown>>;
    if (typeof url !== 'string' || !URL.canParse(url)) return lastUrl;
    const { href } = new URL(url);
    if (href === lastUrl) return lastUrl;
    const typed = typeof code === 'string' ? ` and type the code ${printable(code)}` : '';
    writeStderr(`postern: a sign-in is under way; open${typed === '' ? '\n' : ' '}${href}${typed}\n`);
    return href;
  }
}
