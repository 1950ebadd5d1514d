import { parseTargetParts } from '../../protocol/target.ts';
import { ClientError, toFailure } from '../errors/failure.ts';
import { Refusal, receive, receiveUntil } from './handshake.ts';
import type { ConnectRequest, Handshake } from './handshake.ts';
import type { Password } from './password.ts';

const connectCommand = 1;
const [granted, refused] = [reply(90), reply(91)];
/** With the 0 that ends it. */
const maxTextBytes = 256;

/** SOCKS4 and SOCKS4a, after the first byte. They have no passwords. */
export function* socks4(password: Password | undefined): Handshake {
  const head = yield* receive(7);
  yield* text();
  // SOCKS4a: 0.0.0.x stands for a name that follows.
  const hasName = head.readUInt32BE(3) > 0 && head.readUInt32BE(3) < 256;
  const host = hasName ? yield* text() : head.subarray(3).join('.');
  if (password !== undefined)
    throw new Refusal(new ClientError('LISTENER_DENIED', 'SOCKS4 has no passwords; use SOCKS5'), refused);
  if (head[0] !== connectCommand)
    throw new Refusal(new ClientError('REQUEST_INVALID', 'only CONNECT is supported in SOCKS4'), refused);
  try {
    const target = parseTargetParts(host, String(head.readUInt16BE(1)));
    return { protocol: 'SOCKS4', target, granted, refused: () => refused } satisfies ConnectRequest;
  } catch (error) {
    throw new Refusal(toFailure(error), refused);
  }
}

/** A text up to the 0 that ends it. */
function* text(): Handshake<string> {
  const bytes = yield* receiveUntil('\0', maxTextBytes);
  if (bytes === undefined)
    throw new Refusal(
      new ClientError('REQUEST_INVALID', 'a string in a SOCKS4 request is too long'),
      refused,
    );
  return bytes.subarray(0, -1).toString('latin1');
}

function reply(code: number): Buffer {
  return Buffer.of(0, code, 0, 0, 0, 0, 0, 0);
}
