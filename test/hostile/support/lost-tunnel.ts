import assert from 'node:assert/strict';
import { TunnelError } from '../../../protocol/errors.ts';
import type { Authenticator, Principal } from '../../../server/auth/authenticator.ts';
import { startEcho, startParts, tokenAuthenticator } from '../../server/support/gateway-parts.ts';
import type { Parts } from '../../server/support/gateway-parts.ts';
import { openTunnel, rejoinTunnel, Wire } from './relay-wire.ts';
import type { Known, WireOptions } from './relay-wire.ts';

export type Tokens = Record<string, Partial<Principal> | 'expired'>;

/** Tokens that can be changed while the gateway runs. */
export function tokensOf(tokens: Tokens): Authenticator {
  return tokenAuthenticator(async (credentials) => {
    const [credential] = credentials;
    if (credential === undefined) throw new TunnelError('TOKEN_MISSING', 'no token');
    const principal = credential.kind === 'token' ? tokens[credential.token.reveal()] : undefined;
    if (principal === undefined || principal === 'expired')
      throw new TunnelError('TOKEN_INVALID', 'bad token');
    return {
      issuer: 'test',
      subject: 'alice',
      groups: new Set(),
      issuedAt: new Date(),
      expiresAt: new Date(Date.now() + 60_000),
      ...principal,
    };
  });
}

export interface Cut {
  readonly parts: Parts;
  readonly known: Known;
  readonly target: number;
  readonly end: () => Promise<void>;
}

export type Replace = NonNullable<Parameters<typeof startParts>[0]>;

/** A gateway and an echo behind it. */
export async function startWithEcho(
  replace: Replace = {},
): Promise<{ parts: Parts; target: number; end: () => Promise<void> }> {
  const [echo, parts] = [await startEcho(), await startParts(replace)];
  return {
    parts,
    target: echo.port,
    async end() {
      await parts.close();
      echo.close();
    },
  };
}

/** A tunnel that has lost its connection. */
export async function openAndCut(replace: Replace = {}): Promise<Cut> {
  const { parts, target, end } = await startWithEcho(replace);
  const { wire, known } = await openTunnel(parts.port, target);
  wire.drop();
  while (parts.relays.detachedCount === 0) await turn();
  return { parts, known, target, end };
}

export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

export async function codeFrom(parts: Parts, path: string, options: WireOptions): Promise<string> {
  const answer = await Wire.open(parts.port, path, options);
  if (!(answer instanceof Wire)) return `${answer.status} ${answer.code}`;
  answer.drop();
  return 'accepted';
}

/** Asserts that the tunnel is still there, whole, for its owner. */
export async function assertWhole({ parts, known }: Cut, count: number): Promise<void> {
  const wire = await rejoinTunnel(parts.port, known, { count });
  assert.ok(wire instanceof Wire, JSON.stringify(wire));
  wire.socket.send(Buffer.from('still here'));
  await wire.until('still here');
  wire.drop();
}

export function resources(): number {
  return process.getActiveResourcesInfo().length;
}

export function memory(): number {
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
