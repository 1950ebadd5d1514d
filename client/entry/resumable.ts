import { createHmac } from 'node:crypto';
import type { Duplex } from 'node:stream';
import type { RejoinCause } from '../../protocol/resume-cause.ts';
import type { RelayGreeting, RelayOpened } from '../../protocol/relay-frame.ts';
import type { Carrier } from '../../stream/carrier.ts';
import type { Egress } from '../egress/egress.ts';
import { ClientError } from '../errors/failure.ts';
import { Reconnector } from '../resume/reconnector.ts';
import type { Rejoin, ResumeResult } from '../resume/reconnector.ts';
import type { ConnectorRequest } from '../carrier/connector.ts';
import type { ClientEntry, ReconnectSupport, TunnelRequest } from './entry.ts';
import { ConnectorSelector } from '../carrier/select-connector.ts';
import type { WayName } from '../carrier/select-connector.ts';

/** The entry that brings the first carrier of a tunnel by this way. Later ones may come by the other. */
export function resumableEntry(name: WayName): ClientEntry {
  return {
    name,
    async open(request, egress, signal) {
      const { host, port } = request.target;
      const ways = new ConnectorSelector(name, { isPinned: request.isPinned ?? false });
      const { carrier } = await ways.openBy(name, {
        gateway: request.gateway,
        kind: 'connect',
        query: { host, port: String(port) },
        pass: request,
        egress,
        signal,
        ...isBufferedIn(request),
      });
      const greeting = await greeted(carrier, request.gateway, signal);
      if (greeting.kind !== 'opened') throw notExpected(request.gateway, carrier);
      return resumable(carrier, greeting, { request, egress, ways });
    },
  };
}

interface TunnelParts {
  readonly request: TunnelRequest;
  readonly egress: Egress;
  readonly ways: ConnectorSelector;
}

/** The stream comes back by itself from now on. */
function resumable(carrier: Carrier, opened: RelayOpened, { request, egress, ways }: TunnelParts): Duplex {
  const { sid, secret, windowBytes, keepMs, carrierMs } = opened;
  if (secret === undefined || windowBytes === undefined || keepMs === undefined)
    throw notExpected(request.gateway, carrier);
  const later: ReconnectSupport = request.later ?? { withCredential: (_signal, use) => use(request), warn() {} };
  const reconnector = new Reconnector({
    windowBytes,
    keepMs,
    ...(carrierMs !== undefined && { carrierMs }),
    ...(later.ages && { ages: later.ages }),
    ...(later.watch && { watch: later.watch }),
    ...(later.betterAfterMs !== undefined && { betterAfterMs: later.betterAfterMs }),
    isSecondBest: ways.isSecondBest,
    warn: (line) => later.warn(line),
    resume: (asked, signal) =>
      later.withCredential(signal, async (pass) => {
        const rejoined = await resume(asked, {
          sid,
          secret,
          ways,
          pass,
          gateway: request.gateway,
          egress,
          signal,
          ...isBufferedIn(request),
        });
        if (rejoined.hasChanged) later.onEntry?.(rejoined.way);
        return rejoined;
      }),
  });
  return reconnector.start(carrier);
}

function isBufferedIn({ later }: TunnelRequest): Pick<ConnectorRequest, 'isBuffered'> {
  return later?.isBuffered === undefined ? {} : { isBuffered: later.isBuffered };
}

interface RejoinParts extends Pick<ConnectorRequest, 'gateway' | 'pass' | 'egress' | 'signal' | 'isBuffered'> {
  readonly sid: string;
  readonly secret: string;
  readonly ways: ConnectorSelector;
}

async function resume(
  { received, cause, nextCount, onConnected }: Rejoin,
  { sid, secret, ways, ...parts }: RejoinParts,
): Promise<ResumeResult & { readonly way: WayName; readonly hasChanged: boolean }> {
  const question = (): ConnectorRequest => ({
    ...parts,
    kind: 'reconnect',
    query: { sid, ack: String(received) },
    fields: { 'Postern-Rejoin': rejoinField({ sid, secret, received, count: nextCount(), cause }) },
    onConnected,
  });
  const { carrier, name } = await ways.open(question, {
    onlyBetter: cause === 'better',
    signal: parts.signal,
  });
  const greeting = await greeted(carrier, parts.gateway, parts.signal).catch((error: unknown) => {
    ways.failed(name);
    throw error;
  });
  if (greeting.kind !== 'joined') throw notExpected(parts.gateway, carrier);
  const hasChanged = ways.worked(name);
  return { carrier, resumed: greeting, way: name, hasChanged, isSecondBest: ways.isSecondBest };
}

/** Shows that we know the secret, without showing it, for this one request. */
export function rejoinField(what: {
  readonly sid: string;
  readonly secret: string;
  readonly received: number;
  readonly count: number;
  readonly cause: RejoinCause;
}): string {
  const { sid, secret, received, count, cause } = what;
  const mac = createHmac('sha256', Buffer.from(secret, 'latin1'))
    .update(`postern-rejoin\n${sid}\n${count}\n${received}`)
    .digest('base64url');
  return `count=${count}, mac=${mac}, cause=${cause}`;
}

/** Waits for the first frame of a carrier, which is then held. */
function greeted(carrier: Carrier, gateway: URL, signal: AbortSignal): Promise<RelayGreeting> {
  return new Promise((resolve, reject) => {
    const late = (): void => {
      carrier.drop();
      reject(new ClientError('GATEWAY_TIMEOUT', `${gateway.host} did not answer in time`));
    };
    const stop = (): void => signal.removeEventListener('abort', late);
    signal.addEventListener('abort', late, { once: true });
    if (signal.aborted) return late();
    carrier.listen({
      frame(frame) {
        stop();
        if (frame.kind !== 'opened' && frame.kind !== 'joined') return reject(notExpected(gateway, carrier));
        // More may follow before there is a tunnel to take it.
        carrier.hold();
        resolve(frame);
      },
      drained() {},
      ended() {
        stop();
        reject(new ClientError('HTTP_UNEXPECTED', `${gateway.host} closed the connection without a greeting`));
      },
    });
  });
}

function notExpected(gateway: URL, carrier: Carrier): ClientError {
  carrier.drop();
  return new ClientError('UPGRADE_REFUSED', `${gateway.host} does not keep to the protocol of the relay`);
}
