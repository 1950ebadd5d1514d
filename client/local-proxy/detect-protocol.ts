import { ClientError } from '../errors/failure.ts';
import { Refusal, receive } from './handshake.ts';
import type { Handshake } from './handshake.ts';
import { httpConnect } from './http-connect.ts';
import type { Password } from './password.ts';
import { socks4 } from './socks4.ts';
import { socks5 } from './socks5.ts';

/** The protocols of a port, in the words of its ready line. */
export const protocolNames = ['SOCKS5', 'SOCKS4a', 'HTTP CONNECT'] as const;

/** Receives a program's request; its first byte identifies the protocol. */
export function* detectProtocol(password: Password | undefined): Handshake {
  const first = yield* receive(1);
  if (first[0] === 5) return yield* socks5(password);
  if (first[0] === 4) return yield* socks4(password);
  if (/^[A-Z]$/.test(first.toString('latin1'))) return yield* httpConnect(first, password);
  throw new Refusal(new ClientError('REQUEST_INVALID', 'a program spoke neither SOCKS nor HTTP'));
}
