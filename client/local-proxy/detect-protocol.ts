import { Failure } from '../errors/failure.ts';
import { Refusal, take } from './handshake.ts';
import type { Dialogue } from './handshake.ts';
import { httpConnect } from './http-connect.ts';
import type { Password } from './password.ts';
import { socks4 } from './socks4.ts';
import { socks5 } from './socks5.ts';

/** The protocols of a port, as its ready line names them. */
export const protocolNames = ['SOCKS5', 'SOCKS4a', 'HTTP CONNECT'] as const;

/** Hears what a program asks for; its first byte tells the protocol. */
export function* hear(password: Password | undefined): Dialogue {
  const first = yield* take(1);
  if (first[0] === 5) return yield* socks5(password);
  if (first[0] === 4) return yield* socks4(password);
  if (/^[A-Z]$/.test(first.toString('latin1'))) return yield* httpConnect(first, password);
  throw new Refusal(new Failure('REQUEST_INVALID', 'a program spoke neither SOCKS nor HTTP'));
}
