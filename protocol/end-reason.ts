import type { TunnelErrorCode } from './errors.ts';

/**
 * Why a gateway ends a tunnel that is open, as it tells the client: the close code of a WebSocket (RFC 6455 §7.4.2:
 * 4000 to 4999 are ours), and what the client makes of it.
 */
export const endReasons = {
  REVOKED: { closeCode: 4401, error: 'TUNNEL_REVOKED' },
  KILLED: { closeCode: 4403, error: 'TUNNEL_KILLED' },
  SHED: { closeCode: 4429, error: 'TUNNEL_SHED' },
  SESSION_EXPIRED: { closeCode: 4408, error: 'TUNNEL_EXPIRED' },
  GATEWAY_STOPPED: { closeCode: 4503, error: 'TUNNEL_STOPPED' },
} as const satisfies Record<string, { closeCode: number; error: TunnelErrorCode }>;

export type EndReason = keyof typeof endReasons;

/** Whether `text` is one of the reasons; they arrive from the wire as text. */
export function isEndReason(text: unknown): text is EndReason {
  return typeof text === 'string' && Object.hasOwn(endReasons, text);
}

/** The reason that a WebSocket close code stands for, if it is one of ours. */
export function reasonOfCloseCode(closeCode: number): EndReason | undefined {
  return (Object.keys(endReasons) as EndReason[]).find(
    (reason) => endReasons[reason].closeCode === closeCode,
  );
}
