import { notHere } from './tunnel-locator.ts';
import type { Rejoinables } from './tunnel-locator.ts';
import type { Relays } from './resumable-tunnels.ts';

/** The tunnels of this process. */
export function ownTunnels(relays: Pick<Relays, 'find' | 'rejoin'>): Rejoinables {
  return {
    async find(sid, holder) {
      const tunnel = relays.find(sid, holder);
      const { session, target } = tunnel;
      const address = session?.record.dialled;
      if (session === undefined || target === undefined || address === undefined) throw notHere();
      return {
        sessionId: session.record.id,
        target,
        address,
        revoke: () => session.abort('REVOKED', 'the rules do not allow it any more'),
        async prepare(offer) {
          tunnel.check(offer);
          return async () => relays.rejoin(tunnel, await offer.accept(), offer);
        },
      };
    },
  };
}
