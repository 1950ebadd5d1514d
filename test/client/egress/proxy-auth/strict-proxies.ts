import { createHash, createHmac, randomBytes } from 'node:crypto';
import { createServer } from 'node:net';
import type { Socket } from 'node:net';
import type { TestContext } from 'node:test';
import { parseChallenges } from '../../../../client/egress/proxy-auth/challenge.ts';
import { md4 } from '../../../../client/egress/proxy-auth/md4.ts';
import type { HttpProxy } from '../../../../client/egress/proxy/http-proxy.ts';
import { listen } from '../../support.ts';

/** A proxy in this process that checks every byte of a sign-in, and what happened there. */
export interface StrictProxy {
  readonly proxy: HttpProxy;
  /** One word for each request. */
  readonly seen: string[];
}

const established = 'HTTP/1.1 200 Connection established\r\n\r\n';

function refuse(socket: Socket, offer: string, more = ''): void {
  const head = `HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: ${offer}\r\n${more}`;
  socket.write(`${head}Content-Length: 4\r\n\r\npage`);
}

/** Calls `act` with the value of `Proxy-Authorization` of each request. */
async function serve(
  t: TestContext,
  act: (socket: Socket, authorization: string | undefined) => void,
): Promise<HttpProxy> {
  const server = createServer((socket) => {
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
      const end = text.indexOf('\r\n\r\n');
      if (end === -1) return;
      const authorization = /^Proxy-Authorization: (.*)$/im.exec(text.slice(0, end))?.[1];
      text = text.slice(end + 4);
      act(socket, authorization);
    });
  });
  return { address: { host: '127.0.0.1', port: await listen(t, server) }, tls: false };
}

/** Knows one user, and takes a nonce for so many requests, each with the next number (RFC 7616 §3.4). */
export async function digestProxy(
  t: TestContext,
  known: { user: string; password: string; algorithm: string; uses: number },
): Promise<StrictProxy> {
  const seen: string[] = [];
  const { user, password, algorithm, uses } = known;
  const name = { MD5: 'md5', 'SHA-256': 'sha256', 'SHA-512-256': 'sha512-256' }[
    algorithm.replace('-sess', '')
  ]!;
  const hash = (...parts: string[]): string => createHash(name).update(parts.join(':')).digest('hex');
  let [nonce, used] = ['', 0];
  const ask = (socket: Socket, word: 'asked' | 'stale'): void => {
    seen.push(word);
    [nonce, used] = [randomBytes(12).toString('base64'), 0];
    const stale = word === 'stale' ? ', stale=TRUE' : '';
    refuse(
      socket,
      `Digest realm="corporate", nonce="${nonce}", qop="auth,auth-int", algorithm=${algorithm}, opaque="o"${stale}`,
    );
  };
  const proxy = await serve(t, (socket, authorization) => {
    if (authorization === undefined) return ask(socket, 'asked');
    const { params } = parseChallenges(authorization)[0]!;
    const get = (field: string): string => params.get(field) ?? '';
    if (used === uses && get('nonce') === nonce) return ask(socket, 'stale');
    used++;
    const base = hash(user, 'corporate', password);
    const a1 = algorithm.endsWith('-sess') ? hash(base, nonce, get('cnonce')) : base;
    const count = used.toString(16).padStart(8, '0');
    const expected = hash(a1, nonce, count, get('cnonce'), 'auth', hash('CONNECT', 'gw.example:443'));
    const isRight =
      get('response') === expected && get('nc') === count && get('qop') === 'auth' && get('opaque') === 'o';
    seen.push(isRight ? 'ok' : `wrong: ${authorization}`);
    if (isRight) socket.write(established);
    else refuse(socket, 'Digest realm="corporate"');
  });
  return { proxy, seen };
}

export interface NtlmKnown {
  readonly name: string;
  readonly domain: string;
  readonly password: string;
}

type Fault = 'closes when it asks' | 'closes with the challenge' | 'resets at the proof';

/** Knows one user, and checks the proof and the message integrity code by itself (MS-NLMP §3.2.5.1.2). */
export async function ntlmProxy(
  t: TestContext,
  known: NtlmKnown,
  word: 'NTLM' | 'Negotiate' = 'NTLM',
  fault?: Fault,
): Promise<StrictProxy> {
  const seen: string[] = [];
  const handshakes = new WeakMap<Socket, { hello: Buffer; challenge: Buffer }>();
  const proxy = await serve(t, (socket, authorization) => {
    if (authorization === undefined) {
      seen.push('asked');
      refuse(socket, word, fault === 'closes when it asks' ? 'Connection: close\r\n' : '');
      if (fault === 'closes when it asks') socket.end();
      return;
    }
    const message = Buffer.from(authorization.slice(word.length + 1), 'base64');
    const begun = handshakes.get(socket);
    if (message.readUInt32LE(8) === 1 && begun === undefined) {
      seen.push('hello');
      const challenge = challengeMessage();
      handshakes.set(socket, { hello: message, challenge });
      refuse(
        socket,
        `${word} ${challenge.toString('base64')}`,
        fault === 'closes with the challenge' ? 'Proxy-Connection: close\r\n' : '',
      );
      if (fault === 'closes with the challenge') socket.end();
      return;
    }
    if (fault === 'resets at the proof') {
      socket.resetAndDestroy();
      return;
    }
    const isRight = begun !== undefined && isProof(message, begun, known);
    seen.push(isRight ? 'ok' : 'wrong');
    if (isRight) socket.write(established);
    else refuse(socket, word);
  });
  return { proxy, seen };
}

const timestamp = Buffer.from('0011223344556601', 'hex');

function pair(id: number, value: Buffer): Buffer {
  const head = Buffer.alloc(4);
  head.writeUInt16LE(id, 0);
  head.writeUInt16LE(value.length, 2);
  return Buffer.concat([head, value]);
}

function challengeMessage(): Buffer {
  const info = Buffer.concat([
    pair(2, Buffer.from('CORP', 'utf16le')),
    pair(1, Buffer.from('PROXY', 'utf16le')),
    pair(7, timestamp),
    pair(0, Buffer.alloc(0)),
  ]);
  const head = Buffer.alloc(56);
  head.write('NTLMSSP\0', 'latin1');
  head.writeUInt32LE(2, 8);
  head.writeUInt32LE(56, 16);
  // Unicode, NTLM, a target info, extended session security.
  head.writeUInt32LE(0x0088_0201, 20);
  randomBytes(8).copy(head, 24);
  head.writeUInt16LE(info.length, 40);
  head.writeUInt16LE(info.length, 42);
  head.writeUInt32LE(56, 44);
  return Buffer.concat([head, info]);
}

function hmac(key: Buffer, ...parts: Buffer[]): Buffer {
  return createHmac('md5', key).update(Buffer.concat(parts)).digest();
}

function isProof(message: Buffer, begun: { hello: Buffer; challenge: Buffer }, known: NtlmKnown): boolean {
  const { hello, challenge } = begun;
  if (message.readUInt32LE(8) !== 3) return false;
  const field = (at: number): Buffer =>
    message.subarray(message.readUInt32LE(at + 4), message.readUInt32LE(at + 4) + message.readUInt16LE(at));
  const [lm, nt, domain, name] = [field(12), field(20), field(28), field(36)];
  if (domain.toString('utf16le') !== known.domain) return false;
  if (name.toString('utf16le').toUpperCase() !== known.name.toUpperCase()) return false;
  const owner = Buffer.from(known.name.toUpperCase() + known.domain, 'utf16le');
  const key = hmac(md4(Buffer.from(known.password, 'utf16le')), owner);
  const [proof, temp] = [nt.subarray(0, 16), nt.subarray(16)];
  const code = Buffer.from(message.subarray(72, 88));
  const unsigned = Buffer.from(message);
  unsigned.fill(0, 72, 88);
  const sessionKey = hmac(key, proof);
  return (
    proof.equals(hmac(key, challenge.subarray(24, 32), temp)) &&
    temp.subarray(8, 16).equals(timestamp) &&
    temp.includes(Buffer.from('0600040002000000', 'hex')) &&
    lm.equals(Buffer.alloc(24)) &&
    code.equals(hmac(sessionKey, hello, challenge, unsigned))
  );
}
