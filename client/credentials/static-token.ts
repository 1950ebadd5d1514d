import { Secret } from '../../protocol/secret.ts';
import { ClientError } from '../errors/failure.ts';
import { readSmall, reason } from '../os/files.ts';
import { readClaims } from '../oauth/unverified-claims.ts';

/** Where a token may be; the first that is given is the one, and without any the sign-in counts. */
export interface TokenSources {
  /** `--token-file`, else `POSTERN_TOKEN_FILE`; absolute. */
  readonly file?: string;
  /** `POSTERN_TOKEN`. */
  readonly text?: Secret;
  /** Where sign-ins are. */
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
 * The token that was given, or undefined. Throws `TOKEN_INVALID` for one that has expired or cannot be one, and
 * `CONFIG_INVALID` for a file that cannot be read.
 */
export function givenToken(sources: Omit<TokenSources, 'state'>, now: Date): FoundToken | undefined {
  const found = fromFile(sources.file) ?? fromText(sources.text);
  if (found === undefined) return undefined;
  checkShape(found);
  const expiresAt = readClaims(found.token)?.expiresAt;
  if (expiresAt !== undefined && expiresAt.getTime() + skewMs <= now.getTime()) {
    const what = `the token from ${found.from} expired at ${expiresAt.toISOString()}`;
    throw new ClientError('TOKEN_INVALID', what, { hint: 'export POSTERN_TOKEN_FILE=/path/to/new-token' });
  }
  return found;
}

function fromFile(path: string | undefined): FoundToken | undefined {
  if (path === undefined) return undefined;
  try {
    return { token: new Secret(readSmall(path, largestFileBytes).bytes.toString().trim()), from: path };
  } catch (cause) {
    throw new ClientError('CONFIG_INVALID', `cannot read the token file ${path}: ${reason(cause)}`, { cause });
  }
}

function fromText(text: Secret | undefined): FoundToken | undefined {
  return text && { token: new Secret(text.reveal().trim()), from: 'POSTERN_TOKEN' };
}

/** A token is one word of visible characters (RFC 6750 §2.1); anything else could not stand in a header. */
function checkShape({ token, from }: FoundToken): void {
  const text = token.reveal();
  if (text === '') throw new ClientError('TOKEN_INVALID', `the token from ${from} is empty`);
  if (text.length > largestTokenBytes)
    throw new ClientError('TOKEN_INVALID', `the token from ${from} is too long`);
  if (!/^[A-Za-z0-9\-._~+/]+=*$/.test(text)) {
    throw new ClientError(
      'TOKEN_INVALID',
      `what ${from} holds is not a token: it has characters that no token has`,
    );
  }
}
