import type { Duplex } from 'node:stream';
import type { Target } from '../../protocol/target.ts';
import { loadEntry } from '../entry/choose.ts';
import type { EntryName } from '../../protocol/entries.ts';
import { withCredential } from '../credentials/with-credential.ts';
import type { DoctorContext } from './check.ts';

/** One more tunnel to the target, by an entry that has been tried. The caller owns it. Throws as `ClientEntry.open`. */
export async function openTunnel(
  entry: EntryName,
  { settings, egress, target }: DoctorContext & { readonly target: Target },
  signal: AbortSignal,
): Promise<Duplex> {
  const { gateway, token: sources } = settings;
  const way = await loadEntry(entry);
  return withCredential({ sources, gateway, egress, signal }, ({ token, createProof: prove }) =>
    way.open(
      { gateway, target, token, ...(prove === undefined ? {} : { createProof: prove }) },
      egress,
      signal,
    ),
  );
}
