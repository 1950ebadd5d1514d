// SECURITY: whatever bytes a stranger sends, the work for them grows as they do. One request that costs a quarter of a
// second stops every tunnel of the process for that time.
import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { describe, it } from 'node:test';
import { capsuleCodes, CapsuleDecoder } from '../../protocol/capsule.ts';
import { encodeRecord, RecordDecoder } from '../../protocol/http-carrier-record.ts';
import { parsePattern } from '../../protocol/target-pattern.ts';
import { relayV1 } from '../../protocol/relay-v1.ts';
import { parseTarget, quote } from '../../protocol/target.ts';
import { WebSocketDataFrames } from '../../protocol/websocket-data-frames.ts';
import { describeServer, challengeOf } from '../../client/http/refusal.ts';
import { parseChallenges } from '../../client/egress/proxy-auth/challenge.ts';
import { ChunkedEnd } from '../../client/egress/proxy-auth/chunked-end.ts';
import { parseProxy } from '../../client/egress/proxy/proxy-url.ts';
import { isExcepted } from '../../client/egress/proxy/no-proxy.ts';
import { parseGsettings } from '../../client/egress/system/gnome.ts';
import { parseScutil } from '../../client/egress/system/macos.ts';
import { parseInternetSettings, parseWinHttp } from '../../client/egress/system/windows.ts';
import { sanitize } from '../../client/errors/report.ts';
import { detectProtocol } from '../../client/local-proxy/detect-protocol.ts';
import { HandshakeRun } from '../../client/local-proxy/handshake.ts';
import { decodeCompactJws } from '../../server/auth/jwt/compact-jws.ts';
import { parseJsonObject } from '../../server/auth/jwt/strict-json.ts';
import { parseRelayRequest, readResume } from '../../server/entry/relay-request.ts';
import { readCredentials, readProvenCredentials } from '../../server/entry/credentials.ts';
import { targetInPath, targetInQuery } from '../../server/entry/request-target.ts';
import { checkHandshake, subprotocols } from '../../server/entry/websocket.ts';
import { remoteAddressBehind } from '../../server/http/client-address.ts';
import { checkRequest } from '../../server/http/request-validation.ts';
import { agentOf } from '../../server/login/pages/user-agent.ts';
import { redact } from '../../server/telemetry/log.ts';
import { growsTooFast, hostileRuns } from '../support/growth.ts';

/** A request with this field; a browser, a proxy or a stranger has written it. */
function requestWith(headers: Readonly<Record<string, string>>): IncomingMessage {
  const rawHeaders = Object.entries(headers).flat();
  return {
    headers,
    rawHeaders,
    method: 'GET',
    httpVersion: '1.1',
    url: '/',
    socket: { remoteAddress: '127.0.0.1' },
  } as unknown as IncomingMessage;
}

const webSocket = { 'sec-websocket-version': '13', 'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==' };
const addressOf = remoteAddressBehind(['127.0.0.0/8', '::1/128']);
const upstream = { host: 'gw.example', port: 443 };

/** Parsers of text, and the length that they are given at most: that of a request head, where nothing else limits it. */
const readers: Readonly<Record<string, readonly [maxLength: number, read: (text: string) => unknown]>> = {
  'Sec-WebSocket-Protocol': [
    16_384,
    (text) => checkHandshake(requestWith({ ...webSocket, 'sec-websocket-protocol': text })),
  ],
  'the list of subprotocols': [
    16_384,
    (text) => subprotocols(requestWith({ 'sec-websocket-protocol': text })),
  ],
  Authorization: [16_384, readCredentials],
  'Authorization after its scheme': [16_384, (text) => readCredentials(`Basic ${text}`)],
  DPoP: [16_384, (text) => readProvenCredentials(requestWith({ authorization: `DPoP ${text}`, dpop: text }))],
  'X-Forwarded-For': [16_384, (text) => addressOf(requestWith({ 'x-forwarded-for': text }))],
  Origin: [16_384, (text) => checkRequest(requestWith({ host: 'a', origin: text }), [])],
  'User-Agent': [16_384, agentOf],
  'a path': [16_384, (text) => targetInPath(`/ssh/tcp/${text}`, '/ssh/tcp/')],
  'a query': [
    16_384,
    (text) => targetInQuery(parseRelayRequest(`/ssh/v4/connect?host=${text}`, '/ssh/v4/')!.query),
  ],
  'Postern-Rejoin': [
    16_384,
    (text) => readResume(new URLSearchParams('sid=a&ack=0'), { 'postern-rejoin': text }, { isProven: true }),
  ],
  'a target': [16_384, parseTarget],
  'a target pattern': [16_384, parsePattern],
  'a quotation': [16_384, quote],
  'text for the log': [16_384, redact],
  'a JSON Web Token': [8192, decodeCompactJws],
  'claims of a token': [8192, parseJsonObject],
  'a text message of the relay': [1024, (text) => relayV1.decode(Buffer.from(text, 'latin1'), false)],
  // What the client reads.
  'a message of the gateway': [65_536, sanitize],
  'Proxy-Authenticate': [16_384, (text) => parseChallenges([`Digest ${text}`, text])],
  'WWW-Authenticate': [
    16_384,
    (text) => challengeOf({ headers: { 'www-authenticate': `Postern ${text}`, 'dpop-nonce': text } }),
  ],
  Server: [16_384, (text) => describeServer(requestWith({ server: text, via: text }), 'the gateway')],
  'the URL of a proxy': [16_384, (text) => parseProxy(text, 'HTTPS_PROXY')],
  NO_PROXY: [16_384, (text) => isExcepted(text, upstream)],
  "GNOME's settings": [65_536, (text) => parseGsettings(`org.gnome.system.proxy mode ${text}\n${text}`)],
  "macOS's settings": [65_536, parseScutil],
  "Windows' settings": [65_536, (text) => [parseInternetSettings(text, text), parseWinHttp(text)]],
  'the head of a request to `postern listen`': [
    16_384,
    (text) =>
      new HandshakeRun(detectProtocol(undefined)).push(
        Buffer.from(`CONNECT a:1 HTTP/1.1\r\nX: ${text}\r\n\r\n`, 'latin1'),
      ),
  ],
};

/** As one would write it; its time grows with the square of the length. */
function withoutTrailingSpaces(text: string): string {
  return text.replaceAll(/[ \t]+$/g, '');
}

describe('the time for a text grows as the text does', () => {
  for (const [what, [maxLength, read]] of Object.entries(readers)) {
    it(what, () => {
      const found = hostileRuns.map((run) => growsTooFast(read, run, maxLength)).filter(Boolean);
      assert.deepEqual(found, []);
    });
  }

  it('and a parser whose time grows faster is found', () => {
    assert.notDeepEqual(
      hostileRuns.map((run) => growsTooFast(withoutTrailingSpaces, run, 16_384)).filter(Boolean),
      [],
    );
  });
});

/** Feeds a parser one byte at a time. */
function drip(push: (byte: Buffer) => unknown): (bytes: Buffer) => void {
  return (bytes) => {
    // Each with memory of its own, as from the network.
    for (const byte of bytes) push(Buffer.from([byte]));
  };
}

/** Parsers of a stream, and what is sent to them byte by byte. */
const streams: Readonly<
  Record<
    string,
    readonly [maxLength: number, open: () => (bytes: Buffer) => unknown, first: (length: number) => Buffer]
  >
> = {
  'one record': [
    65_536,
    () => {
      const decoder = new RecordDecoder();
      return (chunk) => [...decoder.push(chunk)];
    },
    (length) => encodeRecord(2, Buffer.alloc(length - 4)),
  ],
  'empty records': [
    65_536,
    () => {
      const decoder = new RecordDecoder();
      return (chunk) => [...decoder.push(chunk)];
    },
    (length) => Buffer.alloc(length),
  ],
  capsules: [
    65_536,
    () => {
      const decoder = new CapsuleDecoder(capsuleCodes('connect-tcp')!);
      return (chunk) => [...decoder.push(chunk)];
    },
    (length) =>
      Buffer.concat(
        Array.from({ length: length / 16 }, () => Buffer.from('c0000000000000170000000000000000', 'hex')),
      ),
  ],
  'data frames': [
    65_536,
    () => {
      const frames = new WebSocketDataFrames({ maxBytes: 65_536 }, { payload() {}, other() {} });
      return (chunk) => frames.push(chunk);
    },
    (length) =>
      Buffer.concat(Array.from({ length: length / 8 }, () => Buffer.from('8282000000006161', 'hex'))),
  ],
  'a chunked body': [
    65_536,
    () => {
      const end = new ChunkedEnd();
      return (chunk) => end.push(chunk);
    },
    (length) => Buffer.from('1\r\na\r\n'.repeat(length / 6)),
  ],
  'a request to `postern listen`': [
    16_384,
    () => {
      const run = new HandshakeRun(detectProtocol(undefined));
      return (chunk) => run.push(chunk);
    },
    (length) => Buffer.from(`CONNECT a:1 HTTP/1.1\r\nX: ${'\r\n\r'.repeat(length / 3)}`.slice(0, length - 1)),
  ],
};

describe('the time for a stream grows as the stream does, byte by byte', () => {
  for (const [what, [maxLength, open, first]] of Object.entries(streams)) {
    it(what, () => {
      assert.equal(
        growsTooFast((bytes: Buffer) => drip(open())(bytes), first, maxLength),
        undefined,
      );
    });
  }
});
