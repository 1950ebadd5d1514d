import type { Duplex } from 'node:stream';
import type { Target } from '../../protocol/target.ts';
import type { Egress } from '../egress/egress.ts';
import { loadEntry, openTunnel } from '../entry/choose.ts';
import type { ReconnectSupport } from '../entry/entry.ts';
import { entryCache } from '../entry/entry-cache.ts';
import { connectionAges } from '../resume/learned-max-age.ts';
import { tunnelFile } from '../resume/tunnel-status-file.ts';
import type { ClientSettings } from '../settings.ts';
import { hasTerminal } from '../os/terminal.ts';
import { timeLimit } from '../../stream/time-limit.ts';
import { withCredential } from '../credentials/with-credential.ts';
import { signInDirectory } from '../credentials/session-store.ts';

/** From the first packet to the open tunnel; ssh itself should wait longer than this. */
const openMs = 30_000;

/** How to get to the gateway and whom to tell. */
export interface TunnelWays {
  readonly settings: ClientSettings;
  readonly egress: Egress;
  /** Tells people how the tunnel fares later. */
  readonly say: (line: string) => void;
  /** Aborted when nobody wants the tunnel any more, before it is open. */
  readonly signal?: AbortSignal;
}

/** Opens a tunnel to `target` as the settings say, within 30 s. The caller owns the stream. Throws as `withCredential` and `openTunnel`. */
export function openTunnelTo(target: Target, ways: TunnelWays): Promise<Duplex> {
  const { settings, egress, say } = ways;
  const { gateway, via, token: sources, places: here } = settings;
  const signal = ways.signal === undefined ? AbortSignal.timeout(openMs) : timeLimit(ways.signal, openMs);
  const memory = entryCache(here.state);
  const later: ReconnectSupport = {
    ages: connectionAges(signInDirectory(here.state, gateway)),
    watch: tunnelFile(here.state, { gateway, target }),
    withCredential: (signal, use) => withCredential({ sources, gateway, egress, signal }, use),
    warn: say,
    onEntry: (name) => memory.keep(gateway, name),
    ...(via === undefined && {
      isBuffered: {
        recall: () => memory.recallHeldBack(gateway),
        keep: () => memory.keepHeldBack(gateway),
      },
    }),
  };
  return withCredential({ sources, gateway, egress, signal }, ({ token, createProof: prove }) =>
    openTunnel({ gateway, target, token, ...(prove === undefined ? {} : { createProof: prove }), later }, egress, {
      load: loadEntry,
      memory,
      signal,
      ...(via === undefined ? {} : { via }),
    }),
  );
}

/** Somebody has to be there to see a browser come up; scripts and IDEs get an answer at once. */
export function maySignIn({ asking }: ClientSettings): boolean {
  return asking.isAllowed && hasTerminal();
}

/** Signs in with the browser, or waits for who does. Who asked may lose its patience in the meantime; it is finished all the same. */
export async function signInFirst({ settings, egress }: TunnelWays): Promise<void> {
  const { gateway, asking, places: here } = settings;
  const { signInOnce } = await import('../login/login-once.ts');
  await signInOnce({
    state: here.state,
    gateway,
    egress,
    device: false,
    browser: asking.browser,
    hangup: 'finish',
    wanted: 'a sign-in',
  });
}
