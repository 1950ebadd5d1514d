import { constants, readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import pino from 'pino';
import type { Logger } from 'pino';
import { isTunnelErrorCode, tunnelErrors } from '../../protocol/errors.ts';
import { maskPlainSecrets, maskSecrets } from '../../protocol/secret-forms.ts';
import { formatTarget } from '../../protocol/target.ts';
import type { SessionObserver } from '../session/sessions.ts';
import { RefusalDigest } from './refusal-digest.ts';

/** The part of a logger that the gateway uses: pino's, or that of the Fastify app it is mounted in. */
export type Log = Pick<Logger, 'info' | 'warn' | 'error'>;

/** Lines that wait for a slow reader can take this much memory; beyond that lines are dropped rather than tunnels held up. */
const maxUnwrittenBytes = 4 * 1024 * 1024;

/** Several processes write into one pipe; a write that is longer than PIPE_BUF can be split there (pipe(7)). */
const maxWrittenBytes = 4096;

/** A process that ends waits for the reader of its log for so long. */
const flushMs = 2000;

/** Untrusted text is cut at this length. */
const maxRedactedCharacters = 300;

const secretFields = ['authorization', 'proxy-authorization', 'cookie', 'sec-websocket-protocol', 'dpop'];

/** JSON lines on stdout, one per event. Headers that carry secrets are never written, should an error contain them. */
export function standardLog(level: string, worker?: number): Logger {
  const destination = logOutput();
  return pino(
    {
      level,
      // Whatever a line is about: no secret leaves the process in it.
      hooks: { streamWrite: maskPlainSecrets },
      ...(worker !== undefined && { base: { pid: process.pid, hostname: hostname(), worker } }),
      redact: [
        // The bytes of a request that cannot be parsed.
        'err.rawPacket',
        ...secretFields.flatMap((name) => [
          `req.headers["${name}"]`,
          `headers["${name}"]`,
          `err.headers["${name}"]`,
        ]),
      ],
    },
    destination,
  );
}

/** Standard output for log lines. A full disk costs lines, never tunnels; once there is room again, lines are written again. */
function logOutput(): ReturnType<typeof pino.destination> {
  const [maxLength, maxWrite] = [maxUnwrittenBytes, maxWrittenBytes];
  const destination = pino.destination({ dest: 1, sync: false, maxLength, maxWrite });
  let hasFailed = false;
  // Without a listener an error would end the process.
  destination.on('error', () => (hasFailed = true)).on('write', () => (hasFailed = false));
  // At the exit of the process pino would repeat a write that fails for ever.
  const flushSync = destination.flushSync.bind(destination);
  destination.flushSync = () => void (hasFailed || flushSync());
  return destination;
}

/**
 * Resolves when all lines of a log of `standardLog` are written, or their reader has not read them for two seconds: what
 * is left is dropped then, and the log can no longer be used. To be called last: where a write cannot be given up, this
 * ends the process.
 */
export async function flushLog(log: Logger): Promise<void> {
  const { [pino.symbols.streamSym]: destination } = log as Logger & {
    readonly [pino.symbols.streamSym]: {
      end(): void;
      destroy(): void;
      once(event: 'close', then: () => void): void;
    };
  };
  // What else the process has to say would be thrown back at it.
  log.level = 'silent';
  // Its `flush` calls back at once.
  const closed = new Promise<boolean>((resolve) => destination.once('close', () => resolve(true)));
  destination.end();
  const isWritten = await Promise.race([closed, delay(flushMs, false, { ref: false })]);
  // Otherwise pino writes the rest when the process exits, and waits for ever.
  destination.destroy();
  // A thread is in a write that never returns, and Node.js would wait for it at the exit.
  if (!isWritten && isBlocking()) process.kill(process.pid, 'SIGKILL');
}

/**
 * Whether a write to standard output waits for its reader. Node.js makes it not wait; but a child process that has the same
 * one makes it wait again, when it starts and when it ends.
 */
function isBlocking(): boolean {
  try {
    const [, flags = ''] = /^flags:\s*([0-7]+)$/m.exec(readFileSync('/proc/self/fdinfo/1', 'latin1')) ?? [];
    return flags !== '' && (Number.parseInt(flags, 8) & constants.O_NONBLOCK) === 0;
  } catch {
    // Only Linux says so.
    return false;
  }
}

/** One line for each tunnel that opened and for each offer that is over; refusals of strangers are counted above a rate. */
export function logObserver(log: Log): SessionObserver {
  const digest = new RefusalDigest(({ count, client, code }) =>
    log.info({ count, client, code }, 'offers refused'),
  );
  return {
    opened({ id, entry, principal, grant, dialMs }) {
      log.info(
        {
          session: id,
          entry,
          subject: principal?.subject,
          target: grant && formatTarget(grant.target),
          dialMs,
        },
        'tunnel opened',
      );
    },
    detached({ id }, how) {
      log.info({ session: id, how }, 'tunnel detached');
    },
    resumed({ id, remoteAddress }, { cause, awayMs, replayedBytes }) {
      log.info({ session: id, client: remoteAddress, cause, awayMs, replayedBytes }, 'tunnel resumed');
    },
    ended(record) {
      if (record.end === 'RESUMED') return;
      const {
        id,
        entry,
        end,
        principal,
        remoteAddress,
        bytesFromClient,
        bytesFromTarget,
        openedAt,
        endedAt,
      } = record;
      if (!isTunnelErrorCode(end)) {
        const durationMs = openedAt === undefined ? undefined : endedAt! - openedAt;
        log.info(
          { session: id, entry, cause: end, durationMs, bytesFromClient, bytesFromTarget },
          'tunnel closed',
        );
        return;
      }
      if (!digest.isSingle(record)) return;
      const fields = {
        session: id,
        entry,
        code: end,
        client: remoteAddress,
        subject: principal?.subject,
        reason: record.reason && redact(record.reason),
      };
      const level = tunnelErrors[end].layer === 'gateway' ? 'error' : 'info';
      log[level](fields, 'offer refused');
    },
  };
}

/** `text` without its last word, which stood before an `@`. */
function withoutUser(text: string): string {
  let end = text.length;
  while (end > 0 && !/[/\s"]/.test(text[end - 1]!)) end--;
  return text.slice(0, end);
}

/**
 * Untrusted text for the log and the audit: at most 300 characters, without what stands before an `@` and without anything
 * in the form of a secret. Tokens do end up in URLs, however often people are told that they must not.
 */
export function redact(text: string): string {
  return maskSecrets(text)
    .split('@')
    .map((part, at, { length }) => (at === length - 1 ? part : `${withoutUser(part)}[secret]`))
    .join('@')
    .slice(0, maxRedactedCharacters);
}
