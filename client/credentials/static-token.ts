import { definedOnly } from '../../base/defined-only.ts';
import { Secret } from '../../protocol/secret.ts';
import { ClientError } from '../errors/failure.ts';
import { writeStderr } from '../errors/report.ts';
import { printable } from '../os/terminal.ts';
import { readSmall, reason } from '../os/files.ts';
import { readClaims } from '../oauth/unverified-claims.ts';

/** The possible sources of a token; the first one that is set is used, and without any the sign-in. */
export interface TokenSources {
  /** `--token-file`, else `POSTERN_TOKEN_FILE`; absolute. */
  readonly file?: string;
  /** `POSTERN_TOKEN`. */
  readonly text?: Secret;
  /** The state directory, which holds the sign-ins. */
  readonly state: string;
}

/** A token and its source. */
export interface FoundToken {
  readonly token: Secret;
  readonly from: string;
}

const maxFileBytes = 64 * 1024;
/** The limit of the gateway: it would reject a longer token. */
const maxTokenBytes = 8 * 1024;
/** The clock error that the gateway tolerates too. */
const skewMs = 30_000;

/** The token that was given, or undefined. Throws `TOKEN_INVALID` for a malformed one, and `CONFIG_INVALID` for a file that cannot be read. */
export function givenToken(sources: Omit<TokenSources, 'state'>): FoundToken | undefined {
  const found = fromFile(sources.file) ?? fromText(sources.text);
  if (found === undefined) return undefined;
  checkShape(found);
  return found;
}

/** The error of a token that has expired at `now`, or undefined. */
export function expiryError(
  { token, from }: FoundToken,
  now: Date,
  cause?: ClientError,
): ClientError | undefined {
  const expiresAt = readClaims(token)?.expiresAt;
  if (expiresAt === undefined || expiresAt.getTime() + skewMs > now.getTime()) return undefined;
  return new ClientError('TOKEN_INVALID', `the token from ${from} expired at ${expiresAt.toISOString()}`, {
    hint: 'export POSTERN_TOKEN_FILE=/path/to/new-token',
    ...definedOnly({ cause, requestId: cause?.requestId }),
  });
}

function fromFile(path: string | undefined): FoundToken | undefined {
  if (path === undefined) return undefined;
  try {
    const { bytes, stats } = readSmall(path, maxFileBytes);
    // A file of another user, such as a mounted secret, has the mode that its owner has chosen.
    const isExposed = stats.isFile() && stats.uid === process.getuid?.() && (stats.mode & 0o004) !== 0;
    if (isExposed) warnOnce(path);
    return { token: new Secret(bytes.toString().trim()), from: path };
  } catch (cause) {
    throw new ClientError('CONFIG_INVALID', `cannot read the token file ${path}: ${reason(cause)}`, {
      cause,
    });
  }
}

const warned = new Set<string>();

function warnOnce(path: string): void {
  if (warned.has(path)) return;
  warned.add(path);
  writeStderr(`postern: warning: other users can read the token file; run: chmod 600 ${printable(path)}\n`);
}

function fromText(text: Secret | undefined): FoundToken | undefined {
  return text && { token: new Secret(text.reveal().trim()), from: 'POSTERN_TOKEN' };
}

/** A token is one word of visible characters (RFC 6750 §2.1); others are not allowed in a header. */
function checkShape({ token, from }: FoundToken): void {
  const text = token.reveal();
  if (text === '') throw new ClientError('TOKEN_INVALID', `the token from ${from} is empty`);
  if (text.length > maxTokenBytes)
    throw new ClientError('TOKEN_INVALID', `the token from ${from} is too long`);
  if (!/^[A-Za-z0-9\-._~+/]+=*$/.test(text)) {
    throw new ClientError(
      'TOKEN_INVALID',
      `${from} does not contain a token: it has characters that a token cannot have`,
    );
  }
}
