import type { Duplex } from 'node:stream';
import { setTimeout } from 'node:timers/promises';
import { deadlineSignal } from '../../base/deadline.ts';
import { definedOnly } from '../../base/defined-only.ts';
import type { Target } from '../../protocol/target.ts';
import { signInDirectory } from '../credentials/session-store.ts';
import { withCredential } from '../credentials/with-credential.ts';
import type { Egress } from '../egress/egress.ts';
import { loadEntry, openTunnel } from '../entry/choose.ts';
import type { ReconnectSupport } from '../entry/entry.ts';
import { entryCache } from '../entry/entry-cache.ts';
import { toFailure } from '../errors/failure.ts';
import { Patience } from '../http/patience.ts';
import { isOfEntry } from '../http/refusal.ts';
import { hasTerminal } from '../os/terminal.ts';
import { connectionAges } from '../resume/learned-max-age.ts';
import { tunnelFile } from '../resume/tunnel-status-file.ts';
import type { ClientSettings } from '../settings.ts';

/** From the first packet to the open tunnel; ssh's own timeout should be longer. */
const openMs = 30_000;

/** How a tunnel reaches the gateway, and where its messages for people go. */
export interface OpenTunnelOptions {
  readonly settings: ClientSettings;
  readonly egress: Egress;
  /** Writes a line for people about what happens to the tunnel later: reconnecting, resumed. */
  readonly notify: (line: string) => void;
  /** Aborted when the tunnel is no longer wanted, before it is open. */
  readonly signal?: AbortSignal;
  /** Called at a SIGHUP during a sign-in, which that does not stop. */
  readonly onHangup?: () => void;
}

/** Opens a tunnel to `target` as the settings define it, within 30 s. The caller owns the stream. Throws as `withCredential` and `openTunnel`. */
export function openTunnelTo(target: Target, options: OpenTunnelOptions): Promise<Duplex> {
  const { settings, egress } = options;
  const { gateway, via, token: sources, paths } = settings;
  const signal =
    options.signal === undefined ? AbortSignal.timeout(openMs) : deadlineSignal(options.signal, openMs);
  const memory = entryCache(paths.state);
  const later = reconnectSupport(target, options, memory);
  const patience = new Patience();
  return withPatience(patience, signal, (onCredential) =>
    withCredential({ sources, gateway, egress, signal }, ({ token, createProof }) => {
      onCredential();
      return openTunnel({ gateway, target, token, later, ...definedOnly({ createProof }) }, egress, {
        load: loadEntry,
        memory,
        signal,
        patience,
        ...definedOnly({ via }),
      });
    }),
  );
}

/**
 * Runs `open` again where it cannot reach the gateway to renew the credential: `openTunnel` has its own repetitions, and
 * begins when `onCredential` is called. A renewal that may have reached the gateway is not repeated, it is used up.
 */
async function withPatience<T>(
  patience: Patience,
  signal: AbortSignal,
  open: (onCredential: () => void) => Promise<T>,
): Promise<T> {
  let isRenewed = false;
  for (;;) {
    try {
      return await open(() => (isRenewed = true));
    } catch (error) {
      const failure = toFailure(error);
      const isRepeatable = !isRenewed && !signal.aborted && !isOfEntry(failure);
      const pauseMs = isRepeatable ? patience.pauseMs(failure) : undefined;
      if (pauseMs === undefined) throw error;
      await setTimeout(pauseMs, undefined, { signal }).catch(() => {});
      if (signal.aborted) throw error;
    }
  }
}

/** What the tunnel needs of the settings after it is open. `--via` pins the entry, so nothing is learned about buffering then. */
function reconnectSupport(
  target: Target,
  { settings, egress, notify }: OpenTunnelOptions,
  memory: ReturnType<typeof entryCache>,
): ReconnectSupport {
  const { gateway, via, token: sources, paths } = settings;
  return {
    ages: connectionAges(signInDirectory(paths.state, gateway)),
    watch: tunnelFile(paths.state, { gateway, target }),
    withCredential: (signal, use) => withCredential({ sources, gateway, egress, signal }, use),
    warn: notify,
    onEntry: (name, evidence) => memory.keep(gateway, name, evidence),
    ...(via === undefined && {
      isBuffered: {
        recall: () => memory.recallBuffering(gateway),
        keep: () => memory.keepBuffering(gateway),
      },
    }),
  };
}

/** Whether a browser sign-in makes sense: a person has to be at a terminal; scripts and IDEs get the error at once. */
export function canSignIn({ asking }: ClientSettings): boolean {
  return asking.isAllowed && hasTerminal();
}

/**
 * Signs in with the browser, or waits for another process that does. A hangup (ssh has lost patience) does not stop the
 * sign-in: the next ssh finds it. Throws as `signInOnce`.
 */
export async function signInFirst({ settings, egress, onHangup }: OpenTunnelOptions): Promise<void> {
  const { gateway, asking, paths } = settings;
  const { signInOnce } = await import('../login/login-once.ts');
  await signInOnce({
    state: paths.state,
    gateway,
    egress,
    device: false,
    browser: asking.browser,
    hangup: 'finish',
    ...definedOnly({ onHangup }),
    wanted: 'a sign-in',
  });
}
