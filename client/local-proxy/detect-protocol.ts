import { ClientError } from '../errors/failure.ts';
import { Refusal, receive } from './handshake.ts';
import type { Handshake } from './handshake.ts';
import { httpConnect } from './http-connect.ts';
import type { Password } from './password.ts';
import { socks4 } from './socks4.ts';
import { socks5 } from './socks5.ts';

/** The protocols of a port, as its ready line names them. */
export const protocolNames = ['SOCKS5', 'SOCKS4a', 'HTTP CONNECT'] as const;

/** Hears what a program asks for; its first byte tells the protocol. */
export function* detectProtocol(password: Password | undefined): Handshake {
  const first = yield* receive(1);
  if (first[0] === 5) return yield* socks5(password);
  if (first[0] === 4) return yield* socks4(password);
  if (/^[A-Z]$/.test(first.toString('latin1'))) return yield* httpConnect(first, password);
  throw new Refusal(new ClientError('REQUEST_INVALID', 'a program spoke neither SOCKS nor HTTP'));
}
