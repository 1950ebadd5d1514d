import { join } from 'node:path';
import { Secret } from '../../protocol/secret.ts';
import { Failure } from '../failure.ts';
import { readSmall, reason } from '../files.ts';
import { readClaims } from './claims.ts';

/** Where a token may be; the first that is given is the one. */
export interface TokenSources {
  /** `--token-file`, else `POSTERN_TOKEN_FILE`; absolute. */
  readonly file?: string;
  /** `POSTERN_TOKEN`. */
  readonly text?: Secret;
  /** The directory of `sign-in.json`. */
  readonly state: string;
}

/** A token and where it came from. */
export interface FoundToken {
  readonly token: Secret;
  readonly from: string;
}

const largestFileBytes = 64 * 1024;
/** What the gateway reads at most; a longer one would only fail there. */
const largestTokenBytes = 8 * 1024;
/** The difference between two clocks that the gateway tolerates too. */
const skewMs = 30_000;

/**
 * The token for `gateway`. Throws `TOKEN_MISSING`, `TOKEN_INVALID` for one that has expired or cannot be one, and
 * `CONFIG_INVALID` for a file that cannot be read or that others can read.
 */
export function findToken(sources: TokenSources, gateway: URL, now: Date): FoundToken {
  const found = fromFile(sources.file) ?? fromText(sources.text) ?? fromSignIn(sources.state, gateway);
  if (found === undefined) throw new Failure('TOKEN_MISSING', `there is no token for ${gateway.href}`);
  checkShape(found);
  const expiresAt = readClaims(found.token)?.expiresAt;
  if (expiresAt !== undefined && expiresAt.getTime() + skewMs <= now.getTime()) {
    const what = `the token from ${found.from} expired at ${expiresAt.toISOString()}`;
    throw new Failure('TOKEN_INVALID', what, { hint: 'export POSTERN_TOKEN_FILE=/path/to/new-token' });
  }
  return found;
}

function fromFile(path: string | undefined): FoundToken | undefined {
  if (path === undefined) return undefined;
  try {
    return { token: new Secret(readSmall(path, largestFileBytes).bytes.toString().trim()), from: path };
  } catch (cause) {
    throw new Failure('CONFIG_INVALID', `cannot read the token file ${path}: ${reason(cause)}`, { cause });
  }
}

function fromText(text: Secret | undefined): FoundToken | undefined {
  return text && { token: new Secret(text.reveal().trim()), from: 'POSTERN_TOKEN' };
}

/** What a sign-in left. It is for one gateway and goes to no other. */
function fromSignIn(state: string, gateway: URL): FoundToken | undefined {
  const path = join(state, 'sign-in.json');
  const signIn = readSignIn(path);
  if (signIn === undefined || signIn.gateway !== gateway.href) return undefined;
  return { token: new Secret(signIn.token), from: path };
}

function readSignIn(path: string): { readonly gateway: string; readonly token: string } | undefined {
  let file;
  try {
    file = readSmall(path, largestFileBytes, { follow: false });
  } catch (cause) {
    if (reason(cause) === 'ENOENT') return undefined;
    const what = reason(cause) === 'ELOOP' ? 'it is a symbolic link' : reason(cause);
    throw unusable(path, what, cause);
  }
  if (process.getuid !== undefined) {
    if (!file.stats.isFile() || file.stats.uid !== process.getuid())
      throw unusable(path, 'it is not a file of yours');
    if ((file.stats.mode & 0o077) !== 0) {
      throw new Failure('CONFIG_INVALID', `the sign-in in ${path} is not used: others can read it`, {
        hint: `chmod 600 '${path}'`,
      });
    }
  }
  try {
    const { gateway, token } = JSON.parse(file.bytes.toString()) as Record<string, unknown>;
    if (typeof gateway === 'string' && typeof token === 'string') return { gateway, token };
  } catch {
    // Said below.
  }
  throw unusable(path, 'it is damaged');
}

function unusable(path: string, what: string, cause?: unknown): Failure {
  return new Failure('CONFIG_INVALID', `the sign-in in ${path} is not used: ${what}`, {
    cause,
    hint: `rm '${path}'`,
  });
}

/** A token is one word of visible characters (RFC 6750 §2.1); anything else could not stand in a header. */
function checkShape({ token, from }: FoundToken): void {
  const text = token.reveal();
  if (text === '') throw new Failure('TOKEN_INVALID', `the token from ${from} is empty`);
  if (text.length > largestTokenBytes)
    throw new Failure('TOKEN_INVALID', `the token from ${from} is too long`);
  if (!/^[A-Za-z0-9\-._~+/]+=*$/.test(text)) {
    throw new Failure(
      'TOKEN_INVALID',
      `what ${from} holds is not a token: it has characters that no token has`,
    );
  }
}
