import type { Secret } from '../../../protocol/secret.ts';

/** A name and a password for a proxy. */
export interface ProxyCredentials {
  /** As given: `alice`, `CORP\alice` or `alice@corp.example`. */
  readonly user: string;
  readonly password: Secret;
  /** The source in messages: `HTTPS_PROXY`, `the keychain`. */
  readonly source: string;
}

/** Sources of a user name and password besides the proxy's URL. */
export interface ProxySignIn {
  /** `POSTERN_PROXY_USER`. */
  readonly user?: string;
  /** `POSTERN_PROXY_PASSWORD`. */
  readonly password?: Secret;
  /** Whether prompts are allowed: not in CI and with `POSTERN_NO_INPUT`. */
  readonly isPromptAllowed: boolean;
  /** The folder where refused passwords are recorded; absent: only this process remembers them. */
  readonly state?: string;
}

/** Splits `CORP\alice`; a name without a domain, or like `alice@corp.example`, stays whole. */
export function splitUser(user: string): { readonly domain: string; readonly name: string } {
  const at = user.search(/[\\/]/);
  return at === -1 ? { domain: '', name: user } : { domain: user.slice(0, at), name: user.slice(at + 1) };
}
