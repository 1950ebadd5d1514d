import type { TunnelError, TunnelErrorCode } from '../../protocol/errors.ts';
import { parseTargetParts } from '../../protocol/target.ts';
import type { Target } from '../../protocol/target.ts';
import { ClientError, toFailure } from '../errors/failure.ts';
import { Refusal, sendBytes, receive } from './handshake.ts';
import type { ConnectRequest, Handshake } from './handshake.ts';
import type { Password } from './password.ts';

const [noSignIn, byPassword, noneFits] = [0, 2, 255];
const connectCommand = 1;
const [ipv4, name, ipv6] = [1, 3, 4];

/** Reply codes of RFC 1928 §6. */
const replies = {
  GRANTED: 0,
  FAILED: 1,
  NOT_ALLOWED: 2,
  NETWORK_UNREACHABLE: 3,
  HOST_UNREACHABLE: 4,
  REFUSED: 5,
  EXPIRED: 6,
  COMMAND_UNKNOWN: 7,
  ADDRESS_UNKNOWN: 8,
} as const;

const replyOfCode: Partial<Record<TunnelErrorCode, keyof typeof replies>> = {
  TARGET_INVALID: 'ADDRESS_UNKNOWN',
  NAME_NOT_FOUND: 'HOST_UNREACHABLE',
  NAME_FAILED: 'HOST_UNREACHABLE',
  NAME_TIMEOUT: 'HOST_UNREACHABLE',
  DIAL_UNREACHABLE: 'HOST_UNREACHABLE',
  DIAL_REFUSED: 'REFUSED',
  DIAL_TIMEOUT: 'EXPIRED',
};

const replyOfLayer: Partial<Record<TunnelError['facts']['layer'], keyof typeof replies>> = {
  policy: 'NOT_ALLOWED',
  'sign-in': 'NOT_ALLOWED',
  proxy: 'NETWORK_UNREACHABLE',
  network: 'NETWORK_UNREACHABLE',
};

/** SOCKS5 (RFC 1928, with the passwords of RFC 1929), after its first byte. */
export function* socks5(password: Password | undefined): Handshake {
  yield* signIn(password);
  const [version, command, , kind] = yield* receive(4);
  if (version !== 5) throw new Refusal(malformed('wrong version in a SOCKS5 request'));
  const target = yield* address(kind!);
  if (command !== connectCommand)
    throw new Refusal(malformed('only CONNECT is supported in SOCKS5'), reply('COMMAND_UNKNOWN'));
  try {
    return connectRequest(parseTargetParts(...target));
  } catch (error) {
    throw new Refusal(toFailure(error), reply('ADDRESS_UNKNOWN'));
  }
}

function* signIn(password: Password | undefined): Handshake<void> {
  const [count] = yield* receive(1);
  const methods = yield* receive(count!);
  // Some programs offer nothing but a password; without one here, any will do.
  const method = password === undefined && methods.includes(noSignIn) ? noSignIn : byPassword;
  if (!methods.includes(method)) {
    const what = password === undefined ? 'no supported authentication method' : 'no password';
    throw new Refusal(denied(`a program offered ${what}`), Buffer.of(5, noneFits));
  }
  yield* sendBytes(Buffer.of(5, method));
  if (method === noSignIn) return;
  const [version] = yield* receive(1);
  // The user name does not matter.
  yield* text();
  const candidate = yield* text();
  if (version !== 1 || (password !== undefined && !password.matches(candidate.toString())))
    throw new Refusal(denied('a program sent a wrong password with SOCKS5'), Buffer.of(1, 1), {
      isGuess: true,
    });
  yield* sendBytes(Buffer.of(1, 0));
}

/** A text after its length. */
function* text(): Handshake<Buffer> {
  const [length] = yield* receive(1);
  return yield* receive(length!);
}

function* address(kind: number): Handshake<readonly [host: string, port: string]> {
  const host = yield* hostOf(kind);
  return [host, String((yield* receive(2)).readUInt16BE())];
}

function* hostOf(kind: number): Handshake<string> {
  if (kind === ipv4) return (yield* receive(4)).join('.');
  if (kind === name) return (yield* text()).toString('latin1');
  if (kind !== ipv6)
    throw new Refusal(malformed('unknown address type in a SOCKS5 request'), reply('ADDRESS_UNKNOWN'));
  const groups = (yield* receive(16)).toString('hex').match(/.{4}/g);
  return groups!.join(':');
}

function connectRequest(target: Target): ConnectRequest {
  return {
    protocol: 'SOCKS5',
    target,
    granted: reply('GRANTED'),
    refused: ({ code, facts }) => reply(replyOfCode[code] ?? replyOfLayer[facts.layer] ?? 'FAILED'),
  };
}

/** A reply with zeros as the bound address, which the gateway does not reveal; RFC 1928 allows firewalls to do so. */
function reply(what: keyof typeof replies): Buffer {
  return Buffer.of(5, replies[what], 0, ipv4, 0, 0, 0, 0, 0, 0);
}

function malformed(what: string): ClientError {
  return new ClientError('REQUEST_INVALID', what);
}

function denied(what: string): ClientError {
  return new ClientError('LISTENER_DENIED', what);
}
