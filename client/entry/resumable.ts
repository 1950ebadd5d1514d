import { createHmac } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { onAbort } from '../../base/deadline.ts';
import { definedOnly } from '../../base/defined-only.ts';
import type { ResumeCause } from '../../protocol/resume-cause.ts';
import type { RelayGreeting, RelayOpened } from '../../protocol/relay-frame.ts';
import type { Carrier } from '../../stream/carrier.ts';
import type { Egress } from '../egress/egress.ts';
import { ClientError } from '../errors/failure.ts';
import { Reconnector } from '../resume/reconnector.ts';
import type { ResumeRequest, ResumeResult } from '../resume/resume-request.ts';
import type { ConnectorRequest, Evidence } from '../carrier/connector.ts';
import type { ClientEntry, ReconnectSupport, TunnelRequest } from './entry.ts';
import { ConnectorSelector } from '../carrier/select-connector.ts';
import type { ConnectorName } from '../carrier/select-connector.ts';

/** The resumable tunnel by WebSocket (docs/entry/relay.md). */
export const relay = resumableEntry('relay');

/** The resumable tunnel by plain requests and responses (docs/entry/http.md). */
export const http = resumableEntry('http');

/** The entry that opens the first carrier of a tunnel by the connector of this name. Later carriers can use the other connector. */
function resumableEntry(name: ConnectorName): ClientEntry {
  return {
    name,
    async open(request, egress, signal) {
      const { host, port } = request.target;
      const connectors = new ConnectorSelector(name, { isPinned: request.isPinned ?? false });
      const { carrier } = await connectors.openBy(name, {
        gateway: request.gateway,
        kind: 'connect',
        query: { host, port: String(port) },
        pass: request,
        egress,
        signal,
        ...isBufferedIn(request),
      });
      const greeting = await readGreeting(carrier, request.gateway, signal);
      if (greeting.kind !== 'opened') throw protocolViolation(request.gateway, carrier);
      return resumable(carrier, greeting, { request, egress, connectors });
    },
  };
}

interface TunnelParts {
  readonly request: TunnelRequest;
  readonly egress: Egress;
  readonly connectors: ConnectorSelector;
}

/** The stream of an open tunnel, which resumes by itself from now on. */
function resumable(
  carrier: Carrier,
  opened: RelayOpened,
  { request, egress, connectors }: TunnelParts,
): Duplex {
  const { sid, secret, windowBytes, keepMs, carrierMs } = opened;
  if (secret === undefined || windowBytes === undefined || keepMs === undefined)
    throw protocolViolation(request.gateway, carrier);
  const later: ReconnectSupport = request.later ?? {
    withCredential: (_signal, use) => use(request),
    warn() {},
  };
  const reconnector = new Reconnector({
    windowBytes,
    keepMs,
    ...definedOnly({ carrierMs, ages: later.ages, watch: later.watch, betterAfterMs: later.betterAfterMs }),
    isSecondBest: connectors.isSecondBest,
    warn: (line) => later.warn(line),
    resume: (resumeRequest, signal) =>
      later.withCredential(signal, async (pass) => {
        const resumed = await resume(resumeRequest, {
          sid,
          secret,
          connectors,
          pass,
          gateway: request.gateway,
          egress,
          signal,
          ...isBufferedIn(request),
        });
        if (resumed.evidence !== undefined) later.onEntry?.(resumed.connector, resumed.evidence);
        return resumed;
      }),
  });
  return reconnector.start(carrier);
}

function isBufferedIn({ later }: TunnelRequest): Pick<ConnectorRequest, 'isBuffered'> {
  return later?.isBuffered === undefined ? {} : { isBuffered: later.isBuffered };
}

interface ResumeParts extends Pick<
  ConnectorRequest,
  'gateway' | 'pass' | 'egress' | 'signal' | 'isBuffered'
> {
  readonly sid: string;
  readonly secret: string;
  readonly connectors: ConnectorSelector;
}

async function resume(
  { received, cause, nextCount, onConnected }: ResumeRequest,
  { sid, secret, connectors, ...parts }: ResumeParts,
): Promise<ResumeResult & { readonly connector: ConnectorName; readonly evidence: Evidence | undefined }> {
  const makeRequest = (): ConnectorRequest => ({
    ...parts,
    kind: 'reconnect',
    query: { sid, ack: String(received) },
    fields: { 'Postern-Rejoin': resumeField({ sid, secret, received, count: nextCount(), cause }) },
    onConnected,
  });
  const { carrier, name } = await connectors.open(makeRequest, {
    onlyBetter: cause === 'better',
    signal: parts.signal,
  });
  const greeting = await readGreeting(carrier, parts.gateway, parts.signal).catch((error: unknown) => {
    connectors.failed(name);
    throw error;
  });
  if (greeting.kind !== 'joined') throw protocolViolation(parts.gateway, carrier);
  const evidence = connectors.worked(name);
  return { carrier, resumed: greeting, connector: name, evidence, isSecondBest: connectors.isSecondBest };
}

/** The `Postern-Rejoin` field: proves knowledge of the secret for this one request, without sending it. */
export function resumeField(what: {
  readonly sid: string;
  readonly secret: string;
  readonly received: number;
  readonly count: number;
  readonly cause: ResumeCause;
}): string {
  const { sid, secret, received, count, cause } = what;
  const mac = createHmac('sha256', Buffer.from(secret, 'latin1'))
    .update(`postern-rejoin\n${sid}\n${count}\n${received}`)
    .digest('base64url');
  return `count=${count}, mac=${mac}, cause=${cause}`;
}

/** Waits for the first frame of a carrier, which is then held. */
function readGreeting(carrier: Carrier, gateway: URL, signal: AbortSignal): Promise<RelayGreeting> {
  return new Promise((resolve, reject) => {
    const removeListener = onAbort(signal, () => {
      carrier.drop();
      reject(new ClientError('GATEWAY_TIMEOUT', `${gateway.host} did not answer in time`));
    });
    if (signal.aborted) return;
    carrier.listen({
      frame(frame) {
        removeListener();
        if (frame.kind !== 'opened' && frame.kind !== 'joined')
          return reject(protocolViolation(gateway, carrier));
        // More frames can follow before there is a tunnel to receive them.
        carrier.hold();
        resolve(frame);
      },
      drained() {},
      ended() {
        removeListener();
        reject(
          new ClientError('HTTP_UNEXPECTED', `${gateway.host} closed the connection without a greeting`, {
            interruption: { how: 'lost' },
          }),
        );
      },
    });
  });
}

function protocolViolation(gateway: URL, carrier: Carrier): ClientError {
  carrier.drop();
  return new ClientError('UPGRADE_REFUSED', `${gateway.host} violates the relay protocol`);
}
