import type { TunnelErrorCode } from './errors.ts';

/**
 * Reasons for which a gateway ends an open tunnel, as it tells the client: the WebSocket close code (RFC 6455 section 7.4.2:
 * 4000 to 4999 are for private use), and the error that the client reports.
 */
export const endReasons = {
  REVOKED: { closeCode: 4401, error: 'TUNNEL_REVOKED' },
  POLICY: { closeCode: 4404, error: 'TARGET_DENIED' },
  KILLED: { closeCode: 4403, error: 'TUNNEL_KILLED' },
  SHED: { closeCode: 4429, error: 'TUNNEL_SHED' },
  DISPLACED: { closeCode: 4409, error: 'TUNNEL_DISPLACED' },
  SESSION_EXPIRED: { closeCode: 4408, error: 'TUNNEL_EXPIRED' },
  GATEWAY_STOPPED: { closeCode: 4503, error: 'TUNNEL_STOPPED' },
} as const satisfies Record<string, { closeCode: number; error: TunnelErrorCode }>;

export type EndReason = keyof typeof endReasons;

/** Whether `text` is one of the reasons, which arrive as text. */
export function isEndReason(text: unknown): text is EndReason {
  return typeof text === 'string' && Object.hasOwn(endReasons, text);
}

/** The reason that a WebSocket close code stands for, if any. */
export function reasonOfCloseCode(closeCode: number): EndReason | undefined {
  return (Object.keys(endReasons) as EndReason[]).find(
    (reason) => endReasons[reason].closeCode === closeCode,
  );
}
