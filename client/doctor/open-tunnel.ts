import type { Duplex } from 'node:stream';
import type { Target } from '../../protocol/target.ts';
import { loadEntry } from '../entry/choose.ts';
import type { EntryName } from '../../protocol/entries.ts';
import { withCredential } from '../credentials/with-credential.ts';
import type { ClientDoctorContext } from './check.ts';

/** Opens another tunnel to the target by an entry that works. The caller owns it. Throws as `ClientEntry.open`. */
export async function openTunnel(
  entry: EntryName,
  { settings, egress, target }: ClientDoctorContext & { readonly target: Target },
  signal: AbortSignal,
): Promise<Duplex> {
  const { gateway, token: sources } = settings;
  const clientEntry = await loadEntry(entry);
  return withCredential({ sources, gateway, egress, signal }, ({ token, createProof: prove }) =>
    clientEntry.open(
      { gateway, target, token, ...(prove === undefined ? {} : { createProof: prove }) },
      egress,
      signal,
    ),
  );
}
