// A ProxyCommand that speaks relay v4 the way gcloud does, or, with `--nassh`, the way nassh does, to test the gateway
// against. Written from what is known of these clients, sharing no code with ours; it dies where they would.
//
//   node relay-v4-client.ts [--nassh] wss://gateway/prefix/v4 HOST PORT       token in the file RELAY_TOKEN_FILE
//
// What is known, and kept to here:
// - WebSocket, binary messages, one command each, big endian: u16 tag, then
//   0x0001 CONNECT_SUCCESS u32 length, sid · 0x0002 RECONNECT_SUCCESS u64 position · 0x0004 DATA u32 length, bytes ·
//   0x0007 ACK u64 position. Other tags are passed over, and what follows the body too.
// - gcloud: `/connect?project=&port=&newWebsocket=True&region=&network=&host=`, `/reconnect?sid=&ack=&newWebsocket=True&region=`,
//   subprotocol `relay.tunnel.cloudproxy.app` which the answer repeats, `Origin: bot:iap-tunneler`, a Bearer token that is
//   fresh on every connection.
// - It ends at a PING of WebSocket, at text, at DATA or ACK before the greeting, at a second greeting, at an ACK of 0,
//   backwards or of more than it has sent; IAP Desktop also at empty DATA.
// - It acknowledges when more than 2 × 16384 bytes are not, and at most every 2 s when idle.
// - It keeps what it has sent until it is acknowledged, in the chunks in which it was sent, and after RECONNECT_SUCCESS
//   sends it again, the rest of a chunk that has arrived in part too.
// - It comes back after a loss without a Close frame and after Close 4004. Every other Close ends it.
// - An end of its input closes with 1000, once everything is sent.
// - nassh: subprotocol `ssh`, `/v4/connect?host=&port=&dstUsername=`, an ACK after every DATA, and after RECONNECT_SUCCESS
//   it goes on where it was: what was lost on the way is never sent again. It comes back at most 3 times in a row.
import { readFileSync } from 'node:fs';
import { WebSocket } from 'ws';

const isNassh = process.argv.includes('--nassh');
const [root, host, port] = process.argv.slice(2).filter((word) => word !== '--nassh') as [
  string,
  string,
  string,
];
const chunkBytes = 16_384;
/** gcloud waits 1.5 s at first; a test need not. */
const firstPauseMs = Number(process.env.RELAY_PAUSE_MS ?? 1500);
const giveUpMs = 15 * 60_000;

let socket: WebSocket | undefined;
let sid: string | undefined;
let isGreeted = false;
let received = 0;
let acknowledged = 0;
let sent = 0;
let confirmed = 0;
let inputEnded = false;
let pauseMs = firstPauseMs;
let lostAt: number | undefined;
let failures = 0;
/** What was sent and not acknowledged, and what could not be sent yet. */
let chunks: { readonly at: number; readonly bytes: Buffer }[] = [];
let unsent: Buffer[] = [];

function die(why: string): never {
  process.stderr.write(`relay-v4-client: ${why}\n`);
  process.exit(70);
}

function open(): void {
  isGreeted = false;
  const query = isNassh
    ? sid === undefined
      ? { host, port, dstUsername: 'me' }
      : { sid, ack: String(received) }
    : sid === undefined
      ? { project: 'p', port, newWebsocket: 'True', region: 'local', network: 'default', host }
      : { sid, ack: String(received), newWebsocket: 'True', region: 'local' };
  const url = `${root}/${sid === undefined ? 'connect' : 'reconnect'}?${new URLSearchParams(query).toString()}`;
  const token = readFileSync(process.env.RELAY_TOKEN_FILE!, 'utf8').trim();
  const opening = new WebSocket(url, [isNassh ? 'ssh' : 'relay.tunnel.cloudproxy.app'], {
    perMessageDeflate: false,
    headers: {
      authorization: `Bearer ${token}`,
      ...(!isNassh && { origin: 'bot:iap-tunneler', 'user-agent': 'gcloud/528.0.0 (a test)' }),
    },
  });
  socket = opening;
  opening.on('unexpected-response', (_request, { statusCode }) => {
    if (statusCode! < 500) die(`refused with ${statusCode}`);
    comeBack();
  });
  opening.on('ping', () => die('a PING of WebSocket'));
  opening.on('message', (data: Buffer, isBinary) => hear(data, isBinary));
  opening.on('error', () => {});
  opening.on('close', (code) => closed(code));
}

function closed(code: number): void {
  if (code === 1006 || (code === 4004 && !isNassh)) return comeBack();
  // gcloud ends its session in order at 1000 and 4010.
  process.stdout.write('', () => process.exit(code === 1000 ? 0 : 1));
}

function comeBack(): void {
  isGreeted = false;
  lostAt ??= Date.now();
  if (sid === undefined && failures > 5) die('no connection');
  if (Date.now() - lostAt > giveUpMs || (isNassh && failures >= 3))
    die('the connection could not be restored');
  failures++;
  setTimeout(open, pauseMs);
  pauseMs = Math.min(20_000, pauseMs * 1.1);
}

function hear(message: Buffer, isBinary: boolean): void {
  if (!isBinary) die('a text message');
  if (message.length < 2) die('a message without a tag');
  const tag = message.readUInt16BE(0);
  if (tag === 1 || tag === 2) return greeted(tag, message);
  if (tag === 4) return hearData(message);
  if (tag === 7) return hearAcknowledgement(position(message));
}

function greeted(tag: number, message: Buffer): void {
  if (isGreeted) die('a second greeting');
  if ((tag === 1) !== (sid === undefined)) die('the wrong greeting');
  isGreeted = true;
  failures = 0;
  lostAt = undefined;
  pauseMs = firstPauseMs;
  if (tag === 1) {
    sid = message.subarray(6, 6 + message.readUInt32BE(2)).toString('latin1');
    if (!/^[\x21-\x7e]+$/.test(sid)) die('a session that cannot be named');
  } else {
    confirm(position(message));
    if (!isNassh) for (const { bytes } of chunks) sendData(bytes);
  }
  sendAll();
}

function hearData(message: Buffer): void {
  if (!isGreeted) die('DATA before the greeting');
  const length = message.readUInt32BE(2);
  if (length === 0) die('empty DATA');
  if (length > chunkBytes || message.length < 6 + length) die(`DATA of ${length} bytes in ${message.length}`);
  received += length;
  const opened = socket!;
  if (!process.stdout.write(message.subarray(6, 6 + length))) {
    opened.pause();
    process.stdout.once('drain', () => opened.resume());
  }
  if (isNassh || received - acknowledged > 2 * chunkBytes) acknowledge();
}

function hearAcknowledgement(at: number): void {
  if (!isGreeted) die('an ACK before the greeting');
  if (at === 0) die('an ACK of 0');
  confirm(at);
}

function confirm(at: number): void {
  if (at < confirmed) die(`an ACK backwards: ${at} after ${confirmed}`);
  if (at > sent) die(`an ACK of ${at} when ${sent} were sent`);
  confirmed = at;
  chunks = chunks
    .filter((chunk) => chunk.at + chunk.bytes.length > at)
    .map((chunk) => (chunk.at >= at ? chunk : { at, bytes: chunk.bytes.subarray(at - chunk.at) }));
}

function position(message: Buffer): number {
  if (message.length < 10) die('half a position');
  return Number(message.readBigUInt64BE(2));
}

function acknowledge(): void {
  acknowledged = received;
  const message = Buffer.alloc(10);
  message.writeUInt16BE(7, 0);
  message.writeBigUInt64BE(BigInt(received), 2);
  socket!.send(message, () => {});
}

function sendData(bytes: Buffer): void {
  const message = Buffer.alloc(6 + bytes.length);
  message.writeUInt16BE(4, 0);
  message.writeUInt32BE(bytes.length, 2);
  bytes.copy(message, 6);
  socket!.send(message, () => sendAll());
}

/** Sends what waits, as long as the connection takes it. */
function sendAll(): void {
  if (!isGreeted) return;
  while (unsent.length > 0 && socket!.bufferedAmount < 5 * chunkBytes) {
    const bytes = unsent.shift()!;
    chunks.push({ at: sent, bytes });
    sent += bytes.length;
    sendData(bytes);
  }
  if (unsent.length < 5) process.stdin.resume();
  if (inputEnded && unsent.length === 0) socket!.close(1000);
}

process.stdin.on('data', (data: Buffer) => {
  for (let at = 0; at < data.length; at += chunkBytes) unsent.push(data.subarray(at, at + chunkBytes));
  if (unsent.length >= 5) process.stdin.pause();
  sendAll();
});
process.stdin.on('end', () => {
  inputEnded = true;
  sendAll();
});
process.stdout.on('error', () => process.exit(0));
setInterval(() => {
  if (isGreeted && received > acknowledged) acknowledge();
}, 2000).unref();
open();
