import type { Config } from '../config/config.ts';
import { signInClientId, signInIssuer } from '../config/issuer-urls.ts';
import { version } from '../runtime/version.ts';

/** The oldest client that this gateway still supports. */
const minClient = '0.1.0';

/** The document at `{prefix}.well-known/postern`, for clients; nothing in it is secret. */
export interface DiscoveryDocument {
  readonly version: string;
  readonly leastClient: string;
  readonly publicUrl: string;
  readonly entries: readonly string[];
  readonly limits: { readonly sessionSeconds: number };
  /** The authorization server of the gateway. */
  readonly signIn: { readonly issuer: string; readonly clientId: string; readonly deviceFlow: boolean };
  /** Relative to `publicUrl`. */
  readonly api: { readonly access: string; readonly tickets: string };
}

export function discoveryDocument(config: Config): DiscoveryDocument {
  return {
    version,
    leastClient: minClient,
    publicUrl: config.publicUrl.href,
    entries: config.entries,
    limits: { sessionSeconds: config.limits.sessionMs / 1000 },
    signIn: {
      issuer: signInIssuer(config.publicUrl),
      clientId: signInClientId,
      deviceFlow: config.signIn.deviceFlow,
    },
    api: { access: 'api/access', tickets: 'api/tickets' },
  };
}
