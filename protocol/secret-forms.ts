/** Characters of a text that are looked at; what follows is dropped by those who cut texts, long before. */
const maxCharacters = 16 * 1024;

/** What a secret looks like, and what is written in its place. */
interface SecretForm {
  readonly pattern: RegExp;
  readonly replace: (found: string, ...groups: readonly string[]) => string;
}

const mask = (): string => '[secret]';
/** Keeps the first group, which says what it was. */
const maskAfter = (_found: string, before: string): string => `${before}[secret]`;

/**
 * The forms of everything secret that the gateway, its client and what stands around them make or accept. Each expression
 * is linear, and none matches across a quote, so that a line of JSON stays one.
 */
const forms: readonly SecretForm[] = [
  // Private keys in PEM (RFC 7468).
  { pattern: /-----BEGIN [A-Z ]*PRIVATE KEY-----[^-"]*/g, replace: mask },
  // Tickets.
  { pattern: /pt_[\w-]{40,}/gi, replace: mask },
  // Tokens, ID tokens and proofs: JWTs, also in lower case, as the name of a host is written; not in the middle of a secret.
  { pattern: /(?:(?<![\w-])|(?<=%3D))eyJ[\w-]{8,}(?:\.[\w-]*)*/gi, replace: () => '[token]' },
  // `Authorization` and `Proxy-Authorization`: the scheme stays.
  {
    pattern: /\b((?:Basic|Bearer|DPoP|Digest|Negotiate|NTLM) +)([\w+/.~-]{8,}=*)(?![\w="])/gi,
    replace: (found, scheme = '', value = '') =>
      /[0-9=+/]|[a-z][A-Z]/.test(value) ? `${scheme}[secret]` : found,
  },
  // Cookies of ours, by their names, and their signatures.
  { pattern: /(postern-(?:session|sign-in|resume|away)(?:\.sig)?=)[^;\s"\\]+/g, replace: maskAfter },
  // Fields of forms and queries.
  {
    pattern:
      /\b((?:access_token|refresh_token|id_token|token|code|code_verifier|device_code|user_code|client_secret|secret|password|passwd|pwd|ticket|assertion)(?:=|%3D))[^\s&"',;\\]+/gi,
    replace: maskAfter,
  },
  // A name and a password in a URL (RFC 3986 section 3.2.1).
  { pattern: /(\/\/)[^/@\s"\\]{1,300}@/g, replace: (_found, slashes) => `${slashes}[secret]@` },
];

/** Forms that harmless text can have too: names of machines in capitals, and the subjects of some identity providers. */
const ambiguousForms: readonly SecretForm[] = [
  // Codes that people type: that of a device (RFC 8628 section 6.1), and the key of a second factor.
  { pattern: /\b[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}\b/g, replace: mask },
  // Refresh tokens, authorization and device codes, sessions, secrets of relays and carriers, MACs: random text.
  { pattern: /[\w-]{32,}/g, replace: (found) => (isRandom(found) ? '[secret]' : found) },
];

/**
 * `text` with everything in it that can be a secret written as `[secret]` or `[token]`: for what a stranger has written, or
 * a peer that may repeat what it was sent.
 */
export function maskSecrets(text: string): string {
  return maskAll(text, [...forms, ...ambiguousForms]);
}

/** `text` with everything in it that can be nothing but a secret written so: for our own words, which contain names. */
export function maskPlainSecrets(text: string): string {
  return maskAll(text, forms);
}

function maskAll(text: string, all: readonly SecretForm[]): string {
  let masked = text.slice(0, maxCharacters);
  for (const { pattern, replace } of all) masked = masked.replace(pattern, replace);
  return masked + text.slice(maxCharacters);
}

/**
 * Whether this can be 24 random bytes or more in base64url or base32, as it was written or in lower case. Names of machines
 * have no capitals; hashes in hexadecimal, which names and logs do contain, have no letter beyond `f`.
 */
function isRandom(text: string): boolean {
  if (/^[A-Z2-7]+$/.test(text)) return /[2-7]/.test(text);
  if (/[a-z]/.test(text) && /[A-Z]/.test(text) && /[0-9]/.test(text)) return true;
  return text.split('-').some((part) => part.length >= 20 && /[g-z]/.test(part) && changes(part) >= 4);
}

/** How often a letter follows a digit, or a digit a letter. */
function changes(text: string): number {
  let count = 0;
  for (let at = 1; at < text.length; at++) {
    if (isDigit(text.charCodeAt(at)) !== isDigit(text.charCodeAt(at - 1))) count++;
  }
  return count;
}

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}
