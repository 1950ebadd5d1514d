import type { Config } from '../config/config.ts';
import { version } from '../version.ts';

/** The oldest client that this gateway still serves. */
const leastClient = '0.1.0';

/** What `{prefix}.well-known/postern` tells clients; nothing in it is secret. */
export interface DiscoveryDocument {
  readonly version: string;
  readonly leastClient: string;
  readonly publicUrl: string;
  readonly entries: readonly string[];
  readonly limits: { readonly sessionSeconds: number };
}

export function discoveryDocument(config: Config): DiscoveryDocument {
  return {
    version,
    leastClient,
    publicUrl: config.publicUrl.href,
    entries: config.entries,
    limits: { sessionSeconds: config.limits.sessionMs / 1000 },
  };
}
