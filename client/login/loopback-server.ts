import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { equalInConstantTime } from '../../base/constant-time.ts';
import { onAbort } from '../../base/deadline.ts';
import { ClientError } from '../errors/failure.ts';

/** The redirect target of the browser. */
export interface Loopback {
  readonly redirectUri: string;
  /** The first request to exactly this address. Rejects with the reason of `signal`. */
  arrival(signal: AbortSignal): Promise<Arrival>;
  close(): void;
}

/** The request that the browser was redirected to, and the response it is waiting for. */
export interface Arrival {
  readonly parameters: URLSearchParams;
  /** Responds with the page and resolves when it has been sent. */
  show(page: 'done' | 'failed'): Promise<void>;
}

const pages = {
  done: ['You are signed in', 'Close this page and go back to your terminal.'],
  failed: ['You are not signed in', 'Close this page. Your terminal shows what went wrong.'],
} as const;

/**
 * Listens on a free port of the loopback address, for one request to a path that cannot be guessed. Requests with another
 * path, method or `Host` get an error and change nothing, so no other program or web page can take part.
 * Throws `SIGN_IN_FAILED` where listening is not possible.
 */
export async function openLoopback(): Promise<Loopback> {
  const path = `/${randomBytes(32).toString('base64url')}`;
  let hasArrived = false;
  let onArrival: ((arrival: Arrival) => void) | undefined;
  const server = createServer({ maxHeaderSize: 16 * 1024, requestTimeout: 5000, headersTimeout: 5000 });
  server.maxConnections = 16;
  server.on('request', (request, response) => {
    // Not by `URL`, which throws for invalid text.
    const [pathname = '', ...query] = (request.url ?? '').split('?');
    if (
      request.method !== 'GET' ||
      !equalInConstantTime(request.headers.host ?? '', authority) ||
      !equalInConstantTime(pathname, path)
    ) {
      respondWithError(request, response, 404);
      return;
    }
    if (hasArrived) {
      respondWithError(request, response, 410);
      return;
    }
    hasArrived = true;
    onArrival?.({ parameters: new URLSearchParams(query.join('?')), show: (page) => show(response, page) });
  });
  const authority = await listen(server);
  return {
    redirectUri: `http://${authority}${path}`,
    arrival: (signal) =>
      new Promise((resolve, reject) => {
        onArrival = resolve;
        onAbort(signal, () => reject(signal.reason as Error));
      }),
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** Listens on 127.0.0.1, or on ::1 where there is no IPv4. Resolves to the authority of its URL. */
async function listen(server: ReturnType<typeof createServer>): Promise<string> {
  let failure: unknown;
  for (const address of ['127.0.0.1', '::1']) {
    try {
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(0, address, () => {
          server.off('error', reject);
          resolve();
        });
      });
      const { port } = server.address() as AddressInfo;
      return address === '::1' ? `[::1]:${port}` : `${address}:${port}`;
    } catch (error) {
      failure = error;
    }
  }
  throw new ClientError('SIGN_IN_FAILED', 'cannot listen on this machine for the redirect of the browser', {
    cause: failure,
    hint: 'postern login --device',
  });
}

const headers = {
  'Cache-Control': 'no-store',
  'Content-Security-Policy':
    "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
  'Content-Type': 'text/html; charset=utf-8',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
  Connection: 'close',
};

function respondWithError(request: IncomingMessage, response: ServerResponse, status: number): void {
  request.resume();
  response.writeHead(status, headers).end();
}

function show(response: ServerResponse, page: keyof typeof pages): Promise<void> {
  const [title, text] = pages[page];
  return new Promise((resolve) => {
    response.once('close', resolve);
    response.writeHead(200, headers).end(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>${title}</title>
<h1>${title}</h1>
<p>${text}</p>
</html>
`);
    // A browser that does not read the response must not delay the client.
    setTimeout(resolve, 1000).unref();
  });
}
