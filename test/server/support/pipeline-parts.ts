import { duplexPair, PassThrough } from 'node:stream';
import { WorkPacer } from '../../../base/work-pacer.ts';
import type { Duplex, TransformCallback } from 'node:stream';
import type { TunnelErrorCode } from '../../../protocol/errors.ts';
import type { Carrier } from '../../../stream/carrier.ts';
import type { Challenge, Principal } from '../../../server/auth/authenticator.ts';
import type { TargetStream } from '../../../server/dial/dialer.ts';
import { openTunnel, resumeTunnel } from '../../../server/pipeline.ts';
import type { PipelineSettings, TunnelContext } from '../../../server/pipeline.ts';
import { ownCounter } from '../../../server/policy/counter.ts';
import type { AsyncCounter, Counter } from '../../../server/policy/counter.ts';
import { TunnelLimiter } from '../../../server/policy/limits.ts';
import type { Offer, PendingRequest, ResumeOffer } from '../../../server/session/offer.ts';
import { Sessions } from '../../../server/session/sessions.ts';
import type { SessionObserver, SessionRecord } from '../../../server/session/sessions.ts';
import { generousLimits, loopbackContext, tokenAuthenticator } from './gateway-parts.ts';

export const alice: Principal = {
  issuer: 'test',
  subject: 'alice',
  groups: new Set(),
  issuedAt: new Date(),
  expiresAt: new Date(Date.now() + 60_000),
};

/** A target that sends back what it receives, and is no socket. */
export class EchoTarget extends PassThrough implements TargetStream {
  bytesRead = 0;
  bytesWritten = 0;
  readonly remoteAddress = '192.0.2.22';
  readonly remotePort = 22;

  override _transform(chunk: Buffer, encoding: BufferEncoding, done: TransformCallback): void {
    this.bytesWritten += chunk.length;
    this.bytesRead += chunk.length;
    super._transform(chunk, encoding, done);
  }
}

/** The parts of a pipeline, each of which a test can replace. */
export interface World {
  readonly settings: PipelineSettings;
  readonly context: TunnelContext;
  /** The client's connection: aborting it is the client leaving. */
  readonly client: AbortController;
  /** The client's end of the tunnel. */
  readonly clientEnd: Duplex;
  /** What was done to the offer and recorded about its session, in order. */
  readonly events: string[];
  /** The refusals that the client has received. */
  readonly answers: { readonly code: TunnelErrorCode; readonly challenge: Challenge | undefined }[];
  /** The records of sessions that have ended. */
  readonly ended: SessionRecord[];
  readonly targets: EchoTarget[];
  /** How many limits are held now. */
  held(): number;
  open(): Promise<void>;
  resume(): Promise<void>;
}

export interface WorldOptions extends Partial<Omit<PipelineSettings, 'dialer'>> {
  readonly dial?: (world: World) => void | Promise<void>;
  readonly requested?: string;
  readonly accept?: () => Promise<never>;
  readonly opening?: () => Promise<void>;
  readonly draining?: boolean;
  readonly isRevoked?: boolean;
  readonly minimumDelayMs?: number;
  readonly tunnels?: TunnelContext['tunnels'];
  /** Called while the tunnel of the principal is counted; its result is waited for. */
  readonly count?: (world: World) => Promise<void> | void;
}

/** A pipeline in this process alone: every part is a double, but for the sessions, the limiter and the bridge. */
export function createWorld(options: WorldOptions = {}): World {
  const { dial, accept, opening, count, requested = 'box:22', ...replaced } = options;
  const client = new AbortController();
  const [serverEnd, clientEnd] = duplexPair();
  // A test that is about something else leaves the errors of a broken tunnel alone.
  for (const end of [serverEnd, clientEnd]) end.on('error', () => {});
  const events: string[] = [];
  const answers: World['answers'] = [];
  const ended: SessionRecord[] = [];
  const targets: EchoTarget[] = [];
  const observer: SessionObserver = {
    async opening() {
      events.push('opening');
      await opening?.();
    },
    opened: () => void events.push('opened'),
    ended(record) {
      events.push('ended');
      ended.push(record);
    },
  };
  const counter = countingCounter();
  const principals: AsyncCounter = {
    async add(name) {
      const now = counter.add(name);
      await count?.(world);
      return now;
    },
    remove: (name) => counter.remove(name),
  };
  const common: PendingRequest = {
    entry: 'test',
    id: 'request-1',
    requested,
    credentials: [],
    remoteAddress: '192.0.2.1',
    ...loopbackContext,
    signal: client.signal,
    reject({ code }, challenge) {
      events.push('rejected');
      answers.push({ code, challenge });
    },
  };
  const accepted = async (): Promise<void> => {
    events.push('accepted');
    await accept?.();
  };
  const world: World = {
    settings: {
      authenticator: tokenAuthenticator(async () => alice),
      policy: { decide: (_principal, target) => ({ target, address: target, rule: 'rule 1' }) },
      dialer: {
        async dial() {
          await dial?.(world);
          const target = new EchoTarget();
          target.on('error', () => {});
          targets.push(target);
          return target;
        },
      },
      evaluateAddress: () => ({ allowed: true, why: 'it is a test' }),
      limits: generousLimits,
      ...replaced,
    },
    context: {
      sessions: new Sessions([observer]),
      tunnels: options.tunnels ?? { find: () => Promise.reject(new TypeError('no tunnels')) },
      limiter: new TunnelLimiter({ counter, principals }),
      revocations: { isRevoked: () => options.isRevoked ?? false },
      pacer: new WorkPacer(),
      draining: () => options.draining ?? false,
      minimumDelayMs: options.minimumDelayMs ?? 0,
    },
    client,
    clientEnd,
    events,
    answers,
    ended,
    targets,
    held: () => counter.held,
    open() {
      const offer: Offer = { ...common, kind: 'open', accept: () => accepted().then(() => serverEnd) };
      return openTunnel(offer, world.context, world.settings);
    },
    resume() {
      const offer: ResumeOffer = {
        ...common,
        kind: 'resume',
        requested: '',
        sid: 'sid-1',
        received: 0,
        cause: 'reset',
        accept: () => accepted().then(() => ({}) as Carrier),
      };
      return resumeTunnel(offer, world.context, world.settings);
    },
  };
  return world;
}

function countingCounter(): Counter & { readonly held: number } {
  const counter = ownCounter();
  let held = 0;
  return {
    add(name) {
      held++;
      return counter.add(name);
    },
    count: (name) => counter.count(name),
    remove(name, many = 1) {
      held -= many;
      counter.remove(name, many);
    },
    get held() {
      return held;
    },
  };
}
