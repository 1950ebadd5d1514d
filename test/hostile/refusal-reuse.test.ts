// SECURITY: RFC 9931. A proxy that pools its connections to us must never put the next client's request, with that
// client's token, into a connection on which a tunnel was refused.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { after, before, describe, it } from 'node:test';
import { TunnelError } from '../../protocol/errors.ts';
import type { TunnelErrorCode } from '../../protocol/errors.ts';
import { makeCertificates } from '../e2e/support/certificates.ts';
import type { Certificates } from '../e2e/support/certificates.ts';
import { needs } from '../e2e/support/needs.ts';
import { openScratch } from '../e2e/support/scratch.ts';
import { startParts, statusOf } from '../server/support/gateway-parts.ts';
import type { Parts } from '../server/support/gateway-parts.ts';
import { relayHead, upgradeHead, webSocketFields } from '../server/support/peers.ts';
import { FrontClient, startVariant } from './support/fronts.ts';
import type { Variant } from './support/fronts.ts';

const scratch = openScratch();
const rounds = process.env.POSTERN_LONG ? 30 : 3;
const good = 'Authorization: Bearer good\r\n';

/** Refusals of the pipeline; the target's name says which. */
const codes: readonly TunnelErrorCode[] = [
  'TARGET_DENIED',
  'ADDRESS_DENIED',
  'LIMIT_SUBJECT',
  'LIMIT_TUNNELS',
  'DRAINING',
  'AUDIT_UNAVAILABLE',
  'INTERNAL',
  'NAME_NOT_FOUND',
  'NAME_TIMEOUT',
  'DIAL_REFUSED',
  'DIAL_TIMEOUT',
  'DIAL_EXHAUSTED',
];
const nameOf = (code: TunnelErrorCode): string => code.toLowerCase().replaceAll('_', '-');

/** What is refused: the target, and what stands in the head besides. */
const kinds: Readonly<Record<string, readonly [target: string, more: string]>> = {
  'no token': ['box:22', ''],
  'a bad token': ['box:22', 'Authorization: Bearer bad\r\n'],
  'no target': ['box:0', good],
  'two ways of signing in': ['box:22', `${good}Proxy-Authorization: Bearer good\r\n`],
  'a page of another origin': ['box:22', `${good}Origin: https://evil.example\r\n`],
  ...Object.fromEntries(codes.map((code) => [code, [`${nameOf(code)}:22`, good] as const])),
};

const entries: Readonly<Record<string, (target: string, more: string) => string>> = {
  relay: relayHead,
  websocket: (target, more) =>
    upgradeHead(`/ssh/tcp/${target.replace(':', '/')}/`, 'websocket', webSocketFields + more),
  'connect-tcp': (target, more) => upgradeHead(`/ssh/tcp/${target.replace(':', '/')}/`, 'connect-tcp', more),
  connect: (target, more) => `CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n${more}\r\n`,
};

const variants: Readonly<Record<Variant, readonly string[]>> = {
  haproxy: ['relay', 'websocket', 'connect-tcp', 'connect'],
  'haproxy that reuses always': ['relay', 'websocket', 'connect-tcp', 'connect'],
  nginx: ['relay', 'websocket', 'connect-tcp'],
  'nginx that reuses': ['relay', 'websocket', 'connect-tcp'],
};

/** Answers with what was asked, so that an answer in the wrong hands shows. */
function own(request: IncomingMessage, response: ServerResponse): void {
  response.end(`own ${request.url} ${request.headers.authorization}`);
}

let serial = 0;

/** Asks as another client would, and checks that the answer is the answer to this. */
async function checkVictim(client: FrontClient): Promise<void> {
  const [path, token] = [`/ssh/victim-${++serial}`, `Bearer VICTIM-${serial}`];
  const answer = await client.ask(
    `GET ${path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: ${token}\r\n\r\n`,
  );
  assert.ok(answer !== undefined, 'no answer');
  assert.equal(statusOf(answer), 200, answer);
  assert.equal(answer.split('\r\n\r\n')[1], `own ${path} ${token}`);
}

describe('after a refusal', needs('nginx', 'haproxy', 'openssl'), () => {
  let certificates: Certificates;
  let gateway: Parts;
  before(async () => {
    certificates = await makeCertificates(scratch);
    gateway = await startParts({
      policy: {
        decide(_principal, target) {
          const code = codes.find((each) => nameOf(each) === target.host);
          throw new TunnelError(code ?? 'TARGET_DENIED', 'no');
        },
      },
    });
    gateway.server.removeAllListeners('request');
    gateway.server.on('request', own);
  });
  after(() => gateway.close());

  for (const [variant, ways] of Object.entries(variants) as [Variant, readonly string[]][]) {
    it(`the next request through ${variant} gets its own answer, whatever was refused`, async () => {
      const port = await startVariant(scratch, variant, { certificates, upstreamPort: gateway.port });
      const statuses = new Set<number>();
      for (let round = 0; round < rounds; round++) {
        for (const [target, more] of Object.values(kinds)) {
          for (const way of ways) {
            const [attacker, victim] = [new FrontClient(port), new FrontClient(port)];
            // The pool is warm, and both clients have used it.
            await checkVictim(attacker);
            await checkVictim(victim);
            const answer = await attacker.ask(entries[way]!(target, more));
            statuses.add(statusOf(answer ?? ''));
            await checkVictim(victim);
            // A new connection takes what the pool has; the proxy may also have kept the attacker's own.
            const another = new FrontClient(port);
            await checkVictim(another);
            if (!attacker.closed)
              await checkVictim(attacker).catch((error: Error) => {
                if (error.message !== 'no answer') throw error;
              });
            for (const client of [attacker, victim, another]) client.close();
          }
        }
      }
      assert.ok(!statuses.has(101) && !statuses.has(200), [...statuses].join());
      assert.ok(statuses.has(403) && statuses.has(502) && statuses.has(503), [...statuses].join());
    });
  }

  it('a backend that keeps the connection gets the next client\u2019s token from haproxy (the naive way)', async () => {
    const stolen: string[] = [];
    const naive = createServer(own);
    naive.on('connect', (_request, socket: Duplex) => {
      socket.on('error', () => {});
      socket.on('data', (chunk: Buffer) => stolen.push(chunk.toString('latin1')));
      socket.write('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n');
    });
    await new Promise<void>((resolve) => naive.listen(0, '127.0.0.1', () => resolve()));
    const upstreamPort = (naive.address() as AddressInfo).port;
    const port = await startVariant(scratch, 'haproxy that reuses always', { certificates, upstreamPort });
    const attacker = new FrontClient(port);
    await attacker.ask('CONNECT box:22 HTTP/1.1\r\nHost: box:22\r\n\r\n');
    const victim = new FrontClient(port);
    const answered = await Promise.race([
      victim.ask('GET /ssh/victim HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer VICTIM\r\n\r\n'),
      new Promise((resolve) => {
        const poll = setInterval(() => {
          if (stolen.length === 0) return;
          clearInterval(poll);
          resolve('stolen');
        }, 10);
      }),
    ]);
    assert.equal(answered, 'stolen');
    assert.match(stolen.join(''), /authorization: Bearer VICTIM/i);
    attacker.close();
    victim.close();
    naive.closeAllConnections();
    naive.close();
  });
});
