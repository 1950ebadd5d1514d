import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { proofChecker } from '../auth/dpop/dpop.ts';
import type { ProofChecker } from '../auth/dpop/dpop.ts';
import { sharedReplayMemory } from '../auth/dpop/replay-cache.ts';
import { ownMaxLifetimeMs } from '../auth/gateway-key.ts';
import { openIssuerKeys } from '../auth/jwt/issuer-keys.ts';
import type { IssuerKeys } from '../auth/jwt/issuer-keys.ts';
import { openRevocations } from '../auth/revocations.ts';
import type { Revocations } from '../auth/revocations.ts';
import { createTicketStore } from '../auth/tickets.ts';
import type { Tickets } from '../auth/tickets.ts';
import type { Config } from '../config/config.ts';
import { signInIssuer } from '../config/issuer-urls.ts';
import { openSigningKeys } from '../login/authorization-server/signing-keys.ts';
import type { SigningKeys } from '../login/authorization-server/signing-keys.ts';
import { SignIns } from '../login/sign-ins.ts';
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
  readonly issuerKeys: IssuerKeys;
  /** Why these parts keep the gateway from being ready; empty when they do not. */
  notReadyReasons(): readonly string[];
}

/** Opens the store and the parts that live in it. Rejects when they cannot be used; nothing is left open then. */
export async function openState(config: Config, log: Log): Promise<GatewayState> {
  const isNew = !existsSync(config.store.file);
  const store = await openStore(config.store, { onNotice: (text) => log.error(text) });
  if (isNew) await warnOfOldCompanions(config, log);
  try {
    const lifetimes = config.issuers.map((issuer) => issuer.maxLifetimeMs);
    const replays = sharedReplayMemory(await store.seen());
    const signingKeys = await openSigningKeys(store, {
      onError: (err) => log.error({ err }, 'the signing keys cannot be read'),
    });
    const revocations: GatewayState['revocations'] = await openRevocations(store, {
      latestProof: (subject) =>
        new SignIns(store, revocations, { issuer: signInIssuer(config.publicUrl) }).latestProof(subject),
      keepMs: Math.max(ownMaxLifetimeMs, config.signIn.sessionMs, ...lifetimes) + dayMs,
      onError: (err) => log.error({ err }, 'the list of revocations cannot be read'),
    });
    const proofs = proofChecker({ origin: config.publicUrl.origin, replays });
    const notReadyReasons = (): readonly string[] => [
      ...(store.failure === undefined ? [] : [`the store cannot be written: ${store.failure}`]),
      ...(revocations.unwritten === 0 ? [] : [`revocations held in memory only: ${revocations.unwritten}`]),
    ];
    const issuerKeys = openIssuerKeys(store, {
      onError: (issuer, err) => log.warn({ issuer, err }, 'the keys of an issuer cannot be loaded'),
    });
    const tickets = createTicketStore(store);
    return { store, revocations, tickets, proofs, signingKeys, issuerKeys, notReadyReasons };
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** A store that is made anew beside files of an earlier run was lost, or is at another path than it was. */
async function warnOfOldCompanions({ store, keyFile, audit }: Config, log: Log): Promise<void> {
  const startedAt = Date.now() - 1000;
  for (const file of [keyFile, audit.file]) {
    const found = await stat(file).catch(() => undefined);
    if (!found?.isFile() || found.birthtimeMs > startedAt || found.size === 0) continue;
    log.warn(
      { store: store.file, older: file },
      'the store is new, but other files of this gateway are older: accounts, sign-ins and revocations from before are not in it. If it was lost, stop the gateway and restore a backup',
    );
    return;
  }
}

/** Closes what `openState` has opened. */
export async function closeState({ signingKeys, revocations, store }: GatewayState): Promise<void> {
  signingKeys.close();
  revocations.close();
  await store.close();
}
