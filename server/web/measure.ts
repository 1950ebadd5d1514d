import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { TunnelError } from '../../protocol/errors.ts';
import type { Principal } from '../auth/authenticator.ts';

/** Authenticates a request. Rejects with `TOKEN_MISSING`, `TOKEN_INVALID`. */
export type Authenticate = (request: FastifyRequest) => Promise<Principal>;

const maxBytes = 4 * 1024 * 1024;
const maxWaitSeconds = 300;
/** Each holds a connection for minutes; more than enough for people who are diagnosing a fault. */
const maxAtOnce = 64;
const chunkBytes = 64 * 1024;
/** A client that takes longer to read it has measured a slow network. */
const readingMs = 60_000;

/**
 * The routes by which doctors measure the network, for authenticated callers. `GET api/measure?bytes=N&waitSeconds=S`
 * sends one byte, is silent for S seconds, and sends N bytes; `POST api/measure` counts the bytes of its body and discards
 * them.
 */
export function measureRoutes(app: FastifyInstance, authenticate: Authenticate): void {
  const running = new Set<ServerResponse>();
  // Shutdown does not wait for silences to end.
  app.addHook('preClose', (done) => {
    for (const response of running) response.destroy();
    done();
  });
  void app.register((scope, _options, done) => {
    // Read as a stream below, not into memory.
    scope.addContentTypeParser('application/octet-stream', (_request, _payload, parsed) => parsed(null));
    scope.get('/api/measure', async (request, reply) => {
      await authenticate(request);
      const { bytes, waitSeconds } = readQuery(request);
      if (running.size >= maxAtOnce)
        throw new TunnelError('LIMIT_TUNNELS', 'too many measurements at the same time');
      await send(reply, { bytes, waitSeconds, running });
    });
    scope.post('/api/measure', async (request, reply) => {
      await authenticate(request);
      return reply.headers(headers).send({ bytes: await countBody(request) });
    });
    done();
  });
}

const headers = {
  'Cache-Control': 'no-store',
  'X-Content-Type-Options': 'nosniff',
} as const;

interface Sending {
  readonly bytes: number;
  readonly waitSeconds: number;
  readonly running: Set<ServerResponse>;
}

function readQuery(request: FastifyRequest): { readonly bytes: number; readonly waitSeconds: number } {
  const { bytes = '0', waitSeconds = '0' } = request.query as Readonly<Record<string, unknown>>;
  return {
    bytes: readNumber(bytes, maxBytes),
    waitSeconds: readNumber(waitSeconds, maxWaitSeconds),
  };
}

function readNumber(text: unknown, max: number): number {
  if (typeof text === 'string' && /^\d{1,7}$/.test(text) && Number(text) <= max) return Number(text);
  throw new TunnelError('REQUEST_INVALID', `this is not a number up to ${max}`);
}

async function send(reply: FastifyReply, { bytes, waitSeconds, running }: Sending): Promise<void> {
  const response = reply.raw;
  reply.hijack();
  running.add(response);
  // A peer that reads nothing does not stay for ever either.
  const timeout = setTimeout(() => response.destroy(), waitSeconds * 1000 + readingMs);
  response.once('close', () => {
    clearTimeout(timeout);
    running.delete(response);
  });
  // The timeout for slow requests would end the silence.
  response.socket?.setTimeout(0);
  response.writeHead(200, {
    ...headers,
    'Content-Type': 'application/octet-stream',
    'Content-Length': String(1 + bytes),
    Connection: 'close',
  });
  try {
    await pipeline(Readable.from(content(response, bytes, waitSeconds)), response);
  } catch {
    // A client that has measured enough disconnects.
  }
}

/** Random bytes, so that no intermediary can compress them. */
async function* content(
  response: ServerResponse,
  bytes: number,
  waitSeconds: number,
): AsyncGenerator<Buffer> {
  yield Buffer.from('.');
  await silence(response, waitSeconds * 1000);
  const chunk = randomBytes(Math.min(bytes, chunkBytes));
  for (let left = bytes; left > 0; left -= chunk.length) yield chunk.subarray(0, left);
}

function silence(response: ServerResponse, ms: number): Promise<void> {
  if (ms === 0 || response.destroyed) return Promise.resolve();
  return new Promise((resolve) => {
    const over = (): void => {
      clearTimeout(timer);
      response.off('close', over);
      resolve();
    };
    const timer = setTimeout(over, ms);
    response.once('close', over);
  });
}

async function countBody({ raw }: FastifyRequest): Promise<number> {
  let size = 0;
  for await (const chunk of raw) {
    size += (chunk as Buffer).length;
    if (size > maxBytes) {
      // A response would keep the connection open, with all the bytes that are still to come.
      raw.socket.destroy();
      throw new TunnelError('REQUEST_INVALID', `more than ${maxBytes} bytes`);
    }
  }
  return size;
}
