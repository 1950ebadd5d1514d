import { z } from 'zod';
import { TunnelError } from '../../protocol/errors.ts';
import type { Store } from '../store/store.ts';
import { loadKeyFile, openKeyFile } from './gateway-key.ts';
import type { SigningKey } from './gateway-key.ts';

const rememberedKey = z.object({ kid: z.string() });

/**
 * Opens the key file of a gateway that starts. The store remembers which key each file had (gateways can share a store):
 * a file that is missing beside such a store (a secret that is not mounted, a restore without it) would otherwise become a
 * new identity, and every token of the old one be refused. Rejects with `CONFIG_INVALID`, and with `STORE_UNAVAILABLE`.
 */
export async function openRememberedKey(
  { keyFile, storeFile }: { readonly keyFile: string; readonly storeFile: string },
  store: Store,
): Promise<SigningKey> {
  const table = store.table('gatewayKey', rememberedKey);
  const known = await table.get(keyFile);
  const present = await loadKeyFile(keyFile);
  if (!present && known)
    throw new TunnelError('CONFIG_INVALID', `keyFile ${missingKeyMessage(keyFile, storeFile, known.kid)}`);
  const key = present ?? (await openKeyFile(keyFile));
  if (known?.kid !== key.kid) await table.put(keyFile, { kid: key.kid });
  return key;
}

/** Opens the key file of a gateway that runs and has one. Rejects with `CONFIG_INVALID`, also when it is missing. */
export async function reloadKeyFile(keyFile: string): Promise<SigningKey> {
  const key = await loadKeyFile(keyFile);
  if (key) return key;
  throw new TunnelError('CONFIG_INVALID', `keyFile ${keyFile} is missing; put it back`);
}

/** What to do about a key file that is missing beside a store that remembers its key. */
export function missingKeyMessage(keyFile: string, storeFile: string, kid?: string): string {
  const key = kid === undefined ? 'a key' : `a key (${kid})`;
  return `${keyFile} is missing, and the store ${storeFile} remembers ${key} of it: put the file back. To begin with a new key, which makes every token of the old one invalid: postern-gateway token --new-key --subject NAME`;
}
