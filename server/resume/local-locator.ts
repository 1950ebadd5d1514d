import { tunnelNotFound } from './tunnel-locator.ts';
import type { TunnelLocator } from './tunnel-locator.ts';
import type { ResumableTunnels } from './resumable-tunnels.ts';

/** The tunnels of this process. */
export function localLocator(relays: Pick<ResumableTunnels, 'find' | 'resume'>): TunnelLocator {
  return {
    async find(sid, holder) {
      const tunnel = relays.find(sid, holder);
      const { session, target } = tunnel;
      const address = session?.record.dialled;
      if (session === undefined || target === undefined || address === undefined) throw tunnelNotFound();
      return {
        sessionId: session.record.id,
        target,
        address,
        revoke: () => session.abort('REVOKED', 'the rules do not allow it any more'),
        async prepare(offer) {
          tunnel.check(offer);
          return async () => relays.resume(tunnel, await offer.accept(), offer);
        },
      };
    },
  };
}
