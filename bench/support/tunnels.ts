import type { Duplex } from 'node:stream';
import { direct } from '../../client/egress/direct.ts';
import { loadEntry } from '../../client/entry/choose.ts';
import type { EntryName } from '../../protocol/entries.ts';
import { Secret } from '../../protocol/secret.ts';
import { token } from './tokens.ts';

/** The same for all tunnels of a run. */
const pass = new Secret(token({}));

/** Opens a tunnel to `box` by the gateway, or what stands before it, at this port. */
export async function openTunnel(entry: EntryName, port: number): Promise<Duplex> {
  const request = {
    gateway: new URL(`http://127.0.0.1:${port}/ssh/`),
    target: { host: 'box', port: 22 },
    token: pass,
  };
  const tunnel = await (await loadEntry(entry)).open(request, direct, AbortSignal.timeout(30_000));
  tunnel.on('error', () => {});
  return tunnel;
}
