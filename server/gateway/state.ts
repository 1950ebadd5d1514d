import { proofChecker } from '../auth/dpop/dpop.ts';
import type { ProofChecker } from '../auth/dpop/dpop.ts';
import { sharedReplayMemory } from '../auth/dpop/replay-cache.ts';
import { ownMaxLifetimeMs } from '../auth/gateway-key.ts';
import { openRevocations } from '../auth/revocations.ts';
import type { Revocations } from '../auth/revocations.ts';
import { createTicketStore } from '../auth/tickets.ts';
import type { Tickets } from '../auth/tickets.ts';
import type { Config } from '../config/config.ts';
import { openSigningKeys } from '../login/authorization-server/signing-keys.ts';
import type { SigningKeys } from '../login/authorization-server/signing-keys.ts';
import { openStore } from '../store/open-store.ts';
import type { Store } from '../store/store.ts';
import type { Log } from '../telemetry/log.ts';

/** Clocks that are far apart must not bring a token back. */
const dayMs = 24 * 3_600_000;

/** The parts that survive a reload, and most of them a restart. */
export interface GatewayState {
  readonly store: Store;
  readonly revocations: Revocations & { close(): void };
  readonly tickets: Tickets;
  readonly proofs: ProofChecker;
  readonly signingKeys: SigningKeys;
}

/** Opens the store and the parts that live in it. Rejects when they cannot be used; nothing is left open then. */
export async function openState(config: Config, log: Log): Promise<GatewayState> {
  const store = await openStore(config.store);
  try {
    const lifetimes = config.issuers.map((issuer) => issuer.maxLifetimeMs);
    const replays = sharedReplayMemory(await store.seen());
    const signingKeys = await openSigningKeys(store, {
      onError: (err) => log.error({ err }, 'the signing keys cannot be read'),
    });
    const revocations = await openRevocations(store, {
      keepMs: Math.max(ownMaxLifetimeMs, config.signIn.sessionMs, ...lifetimes) + dayMs,
      onError: (err) => log.error({ err }, 'the list of revocations cannot be read'),
    });
    const proofs = proofChecker({ origin: config.publicUrl.origin, replays });
    return { store, revocations, tickets: createTicketStore(store), proofs, signingKeys };
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** Closes what `openState` has opened. */
export async function closeState({ signingKeys, revocations, store }: GatewayState): Promise<void> {
  signingKeys.close();
  revocations.close();
  await store.close();
}
