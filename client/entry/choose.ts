import type { Duplex } from 'node:stream';
import { entryFacts, entryNames } from '../../protocol/entries.ts';
import type { EntryName } from '../../protocol/entries.ts';
import type { TunnelError } from '../../protocol/errors.ts';
import type { Egress } from '../egress/egress.ts';
import { ClientError, toFailure } from '../errors/failure.ts';
import { isTransportFailure } from './entry.ts';
import type { ClientEntry, TunnelRequest } from './entry.ts';
import type { EntryMemory } from './entry-cache.ts';

/** Gives the entry of a name; loading one may cost time, so only those that are tried are asked for. */
export type LoadEntry = (name: EntryName) => Promise<ClientEntry>;

/** How to choose among the entries. */
export interface Choice {
  readonly load: LoadEntry;
  /** Try only this one. */
  readonly via?: EntryName;
  readonly memory: EntryMemory;
  readonly signal: AbortSignal;
}

const loaders: Readonly<Record<EntryName, () => Promise<ClientEntry>>> = {
  relay: async () => (await import('./relay.ts')).relay,
  websocket: async () => (await import('./websocket.ts')).websocket,
  'connect-tcp': async () => (await import('./connect-tcp.ts')).connectTcp,
  connect: async () => (await import('./connect.ts')).connect,
  http: async () => (await import('./http.ts')).http,
};

/** Loads an entry when it is needed. */
export const loadEntry: LoadEntry = (name) => loaders[name]();

/**
 * Opens the tunnel by the entry that worked here last, else in the usual order. Goes on to the next only when
 * something on the way did not pass the request: another entry changes nothing about who asks, for what, or how the
 * gateway is reached. When none passes, the first failure in the usual order is thrown, naming those tried.
 */
export async function openTunnel(request: TunnelRequest, egress: Egress, choice: Choice): Promise<Duplex> {
  const { load, via, memory, signal } = choice;
  const failures = new Map<EntryName, TunnelError>();
  const isBound = request.createProof !== undefined;
  let noUpgradePasses = false;
  for (const name of via === undefined ? order(memory.recall(request.gateway), isBound) : [via]) {
    if (noUpgradePasses && entryFacts(name).upgrade !== undefined) continue;
    const startedAt = performance.now();
    try {
      const entry = await load(name);
      const tunnel = await entry.open({ ...request, isPinned: via !== undefined }, egress, signal);
      if (via === undefined) memory.keep(request.gateway, name);
      return tunnel;
    } catch (error) {
      const failure = toFailure(error);
      if (via !== undefined || !isTransportFailure(failure)) throw failure;
      failures.set(name, failure);
      noUpgradePasses ||= failure.code === 'UPGRADE_REQUIRED' || performance.now() - startedAt > swallowedMs;
    }
  }
  throw mostInformative(failures, isBound);
}

/** Longer than the gateway thinks: something has swallowed the request, and would do so with the next upgrade. */
const swallowedMs = 12_000;

/** The entries to try: an entry that cannot carry the proof of a bound token is left out with such a token. */
function order(recalled: EntryName | undefined, isBound: boolean): EntryName[] {
  const usable = entryNames.filter((name) => !isBound || entryFacts(name).carriesProof);
  const first = usable.filter((name) => name === recalled);
  return [...first, ...usable.filter((name) => name !== recalled)];
}

function mostInformative(failures: ReadonlyMap<EntryName, TunnelError>, isBound: boolean): ClientError {
  const first = entryNames.map((name) => failures.get(name)).find((failure) => failure !== undefined)!;
  const unusable = entryNames.filter((name) => !entryFacts(name).carriesProof).join(', ');
  const rest = isBound ? `; ${unusable} is for tokens and tickets only` : '';
  return new ClientError(first.code, `${first.message} (tried ${[...failures.keys()].join(', ')}${rest})`, {
    cause: first,
    ...(first instanceof ClientError && first.requestId !== undefined ? { requestId: first.requestId } : {}),
    ...(first instanceof ClientError && first.hint !== undefined ? { hint: first.hint } : {}),
  });
}
