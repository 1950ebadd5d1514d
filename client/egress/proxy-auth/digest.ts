import { createHash, randomBytes } from 'node:crypto';
import type { ProxyChallenge } from './challenge.ts';
import type { ProxyCredentials } from './credentials.ts';
import { SchemeUnavailable } from './scheme.ts';
import type { CredentialRequest, AuthExchange } from './scheme.ts';

/** The hashes of RFC 7616 by their names there, the strongest first. */
const hashes: readonly (readonly [algorithm: string, hash: string])[] = [
  ['SHA-512-256', 'sha512-256'],
  ['SHA-256', 'sha256'],
  ['MD5', 'md5'],
];

/** The nonce of a proxy, and how often it has been used. */
export interface Nonce {
  readonly challenge: ProxyChallenge;
  count: number;
}

/** Lets `digest` reuse the last nonce. */
export interface NonceMemory {
  nonce?: Nonce;
}

/** RFC 7616 with qop=auth, or without a qop as in RFC 2069. Nonces are reused until the proxy reports them as stale. */
export function digest(
  credentials: ProxyCredentials,
  asking: CredentialRequest,
  memory: NonceMemory = {},
): AuthExchange {
  let isSent = false;
  return {
    isInProgress: false,
    get hasSentCredential() {
      return isSent;
    },
    answer(challenges) {
      const isStale = challenges.some(({ params }) => params.get('stale')?.toLowerCase() === 'true');
      if (isSent && !isStale) return undefined;
      if (challenges.length > 0) memory.nonce = { challenge: strongest(challenges), count: 0 };
      const { nonce } = memory;
      if (nonce === undefined) throw new SchemeUnavailable('there is no nonce yet');
      isSent = true;
      nonce.count++;
      const request = { ...asking, count: nonce.count, clientNonce: randomBytes(16).toString('base64url') };
      return digestAnswer(nonce.challenge, credentials, request);
    },
  };
}

function strongest(challenges: readonly ProxyChallenge[]): ProxyChallenge {
  for (const [algorithm] of hashes) {
    const found = challenges.find((challenge) => algorithmOf(challenge) === algorithm && isWhole(challenge));
    if (found) return found;
  }
  throw new SchemeUnavailable('it offers no supported kind of Digest');
}

/** Without `-sess`. */
function algorithmOf({ params }: ProxyChallenge): string {
  return (params.get('algorithm') ?? 'MD5').toUpperCase().replace(/-SESS$/, '');
}

function isWhole({ params }: ProxyChallenge): boolean {
  const qop = qops(params);
  return params.has('realm') && params.has('nonce') && (qop === undefined || qop.includes('auth'));
}

function qops(params: ProxyChallenge['params']): string[] | undefined {
  return params
    .get('qop')
    ?.split(',')
    .map((each) => each.trim().toLowerCase());
}

/** The input of a response besides the challenge. */
export interface DigestRequest {
  readonly authority: string;
  readonly count: number;
  readonly clientNonce: string;
  /** `CONNECT`, but in tests. */
  readonly method?: string;
}

/** The value of `Proxy-Authorization` (RFC 7616 §3.4). */
export function digestAnswer(
  challenge: ProxyChallenge,
  { user, password }: Pick<ProxyCredentials, 'user' | 'password'>,
  request: DigestRequest,
): string {
  const { params } = challenge;
  const { authority, clientNonce, method = 'CONNECT' } = request;
  const [realm, nonce] = [params.get('realm')!, params.get('nonce')!];
  const hash = hashWith(algorithmOf(challenge));
  const isSession = /-sess$/i.test(params.get('algorithm') ?? '');
  const hasQop = qops(params) !== undefined;
  const count = request.count.toString(16).padStart(8, '0');

  // Node.js decodes headers as Latin-1; the proxy hashes the bytes.
  const secret = hash([user, ':', latin1(realm), ':', password.reveal()]);
  const a1 = isSession ? hash([secret, ':', latin1(nonce), ':', clientNonce]) : secret;
  const a2 = hash([`${method}:${authority}`]);
  const middle = hasQop ? [`:${count}:${clientNonce}:auth:`] : [':'];
  const response = hash([a1, ':', latin1(nonce), ...middle, a2]);

  const isHashed = params.get('userhash')?.toLowerCase() === 'true';
  const fields = [
    isHashed ? `username="${hash([user, ':', latin1(realm)])}"` : userField(user),
    `realm=${quoted(realm)}`,
    `nonce=${quoted(nonce)}`,
    `uri=${quoted(authority)}`,
    `response="${response}"`,
    ...(params.has('algorithm') ? [`algorithm=${params.get('algorithm')}`] : []),
    ...(hasQop ? ['qop=auth', `nc=${count}`] : []),
    ...(hasQop || isSession ? [`cnonce="${clientNonce}"`] : []),
    ...(params.has('opaque') ? [`opaque=${quoted(params.get('opaque')!)}`] : []),
    ...(isHashed ? ['userhash=true'] : []),
  ];
  return `Digest ${fields.join(', ')}`;
}

function hashWith(algorithm: string): (parts: readonly (string | Buffer)[]) => string {
  const [, name] = hashes.find(([known]) => known === algorithm)!;
  return (parts) => {
    let hash;
    try {
      hash = createHash(name);
    } catch (cause) {
      // For example where only the algorithms of FIPS 140 are allowed.
      throw new SchemeUnavailable(`${algorithm} is not allowed on this machine`, undefined, { cause });
    }
    for (const part of parts) hash.update(part);
    return hash.digest('hex');
  };
}

function latin1(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}

function userField(user: string): string {
  if (/^[\x20-\x7e]*$/.test(user)) return `username=${quoted(user)}`;
  const escaped = encodeURIComponent(user).replaceAll(
    /['()*]/g,
    (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `username*=UTF-8''${escaped}`;
}

function quoted(text: string): string {
  return `"${text.replaceAll(/["\\]/g, String.raw`\$&`)}"`;
}
