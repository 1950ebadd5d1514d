import type { Secret } from '../../../protocol/secret.ts';

/** A name and a password for a proxy. */
export interface ProxyCredentials {
  /** As it was given: `alice`, `CORP\alice` or `alice@corp.example`. */
  readonly user: string;
  readonly password: Secret;
  /** Where they come from, in the words of a message: `HTTPS_PROXY`, `the keychain`. */
  readonly source: string;
}

/** Where a name and a password may come from, besides the URL of the proxy. */
export interface ProxySignIn {
  /** `POSTERN_PROXY_USER`. */
  readonly user?: string;
  /** `POSTERN_PROXY_PASSWORD`. */
  readonly password?: Secret;
  /** Whether somebody may be asked: nobody is there in CI and with `POSTERN_NO_INPUT`. */
  readonly isPromptAllowed: boolean;
  /** The folder where refused passwords are noted; absent: only this process knows of them. */
  readonly state?: string;
}

/** The domain of `CORP\alice`; a name without one, or like `alice@corp.example`, is a name as a whole. */
export function splitUser(user: string): { readonly domain: string; readonly name: string } {
  const at = user.search(/[\\/]/);
  return at === -1 ? { domain: '', name: user } : { domain: user.slice(0, at), name: user.slice(at + 1) };
}
