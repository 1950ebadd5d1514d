import { tunnelNotFound } from './tunnel-locator.ts';
import type { TunnelLocator } from './tunnel-locator.ts';
import type { ResumableTunnels } from './resumable-tunnels.ts';

/** The tunnels of this process. */
export function localLocator(tunnels: Pick<ResumableTunnels, 'find' | 'resume'>): TunnelLocator {
  return {
    async find(sid, owner) {
      const tunnel = tunnels.find(sid, owner);
      const { session, target } = tunnel;
      const address = session?.record.dialled;
      if (session === undefined || target === undefined || address === undefined) throw tunnelNotFound();
      return {
        sessionId: session.record.id,
        target,
        address,
        revoke: () => session.abort('REVOKED', 'the rules no longer allow it'),
        async prepare(offer) {
          tunnel.check(offer);
          return async () => tunnels.resume(tunnel, await offer.accept(), offer);
        },
      };
    },
  };
}
