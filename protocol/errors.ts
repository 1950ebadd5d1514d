/**
 * How a failure is answered and what it means to the caller.
 * `status` is the HTTP status of a refusal (0: never answered over HTTP), `retry` says whether the same
 * request may succeed later, `exit` is the exit code of `postern connect`, `layer` is who said no,
 * `proxyStatus` is the RFC 9209 §2.3 error type where the next hop is at fault.
 */
interface ErrorFacts {
  readonly status: number;
  readonly retry: boolean;
  readonly exit: number;
  readonly layer: Layer;
  readonly proxyStatus?: string;
}

export type Layer =
  | 'usage'
  | 'configuration'
  | 'proxy'
  | 'network'
  | 'tls'
  | 'http'
  | 'upgrade'
  | 'sign-in'
  | 'policy'
  | 'gateway'
  | 'target'
  | 'tunnel';

/** Every way a tunnel can fail. `docs/errors.md` explains each code; a test keeps the two together. */
export const tunnelErrors = {
  // The request itself.
  REQUEST_INVALID: { status: 400, retry: false, exit: 1, layer: 'http' },
  HEADERS_TOO_LARGE: { status: 431, retry: false, exit: 1, layer: 'http' },
  REQUEST_TIMEOUT: { status: 408, retry: true, exit: 75, layer: 'http' },
  TARGET_INVALID: { status: 400, retry: false, exit: 2, layer: 'usage' },
  ENTRY_UNKNOWN: { status: 404, retry: false, exit: 78, layer: 'upgrade' },
  UPGRADE_REQUIRED: { status: 426, retry: false, exit: 69, layer: 'upgrade' },
  ORIGIN_DENIED: { status: 403, retry: false, exit: 77, layer: 'policy' },
  SIGN_IN_TIMEOUT: { status: 408, retry: true, exit: 75, layer: 'sign-in' },
  // Who asks. Both are answered as TOKEN_INVALID: a stranger learns nothing from the difference.
  TOKEN_MISSING: { status: 401, retry: false, exit: 77, layer: 'sign-in' },
  TOKEN_INVALID: { status: 401, retry: false, exit: 77, layer: 'sign-in' },
  ISSUER_UNAVAILABLE: { status: 503, retry: true, exit: 75, layer: 'sign-in' },
  // What is allowed.
  TARGET_DENIED: { status: 403, retry: false, exit: 77, layer: 'policy' },
  ADDRESS_DENIED: {
    status: 403,
    retry: false,
    exit: 77,
    layer: 'policy',
    proxyStatus: 'destination_ip_prohibited',
  },
  LIMIT_SUBJECT: { status: 429, retry: true, exit: 75, layer: 'policy' },
  LIMIT_ADDRESS: { status: 429, retry: true, exit: 75, layer: 'policy' },
  LIMIT_TUNNELS: { status: 503, retry: true, exit: 75, layer: 'gateway' },
  // The gateway.
  DRAINING: { status: 503, retry: true, exit: 75, layer: 'gateway' },
  AUDIT_UNAVAILABLE: { status: 503, retry: true, exit: 75, layer: 'gateway' },
  STORE_UNAVAILABLE: { status: 503, retry: true, exit: 75, layer: 'gateway' },
  INTERNAL: { status: 500, retry: true, exit: 1, layer: 'gateway', proxyStatus: 'proxy_internal_error' },
  // The next hop.
  NAME_NOT_FOUND: { status: 502, retry: false, exit: 69, layer: 'target', proxyStatus: 'dns_error' },
  NAME_FAILED: { status: 502, retry: true, exit: 75, layer: 'target', proxyStatus: 'dns_error' },
  NAME_TIMEOUT: { status: 504, retry: true, exit: 75, layer: 'target', proxyStatus: 'dns_timeout' },
  DIAL_REFUSED: { status: 502, retry: true, exit: 69, layer: 'target', proxyStatus: 'connection_refused' },
  DIAL_TIMEOUT: { status: 504, retry: true, exit: 75, layer: 'target', proxyStatus: 'connection_timeout' },
  DIAL_UNREACHABLE: {
    status: 502,
    retry: true,
    exit: 69,
    layer: 'target',
    proxyStatus: 'destination_ip_unroutable',
  },
  DIAL_EXHAUSTED: {
    status: 503,
    retry: true,
    exit: 75,
    layer: 'gateway',
    proxyStatus: 'connection_limit_reached',
  },
  // Coming back to a tunnel whose connection was lost.
  TUNNEL_GONE: { status: 410, retry: true, exit: 75, layer: 'gateway' },
  TUNNEL_UNREACHABLE: { status: 503, retry: true, exit: 75, layer: 'gateway' },
  REJOIN_INVALID: { status: 409, retry: false, exit: 1, layer: 'tunnel' },
  // Seen by the client only.
  USAGE: { status: 0, retry: false, exit: 2, layer: 'usage' },
  CONFIG_INVALID: { status: 0, retry: false, exit: 78, layer: 'configuration' },
  GATEWAY_UNSET: { status: 0, retry: false, exit: 78, layer: 'configuration' },
  PROXY_UNREACHABLE: { status: 0, retry: true, exit: 69, layer: 'proxy' },
  PROXY_SIGN_IN: { status: 0, retry: false, exit: 77, layer: 'proxy' },
  PROXY_REFUSED: { status: 0, retry: false, exit: 69, layer: 'proxy' },
  PAC_FAILED: { status: 0, retry: true, exit: 69, layer: 'proxy' },
  GATEWAY_UNREACHABLE: { status: 0, retry: true, exit: 69, layer: 'network' },
  GATEWAY_TIMEOUT: { status: 0, retry: true, exit: 75, layer: 'network' },
  SIGN_IN_FAILED: { status: 0, retry: false, exit: 77, layer: 'sign-in' },
  TLS_FAILED: { status: 0, retry: false, exit: 69, layer: 'tls' },
  HTTP_UNEXPECTED: { status: 0, retry: false, exit: 69, layer: 'http' },
  UPGRADE_REFUSED: { status: 0, retry: false, exit: 69, layer: 'upgrade' },
  TARGET_NOT_SSH: { status: 0, retry: false, exit: 69, layer: 'target' },
  // The gateway has ended a tunnel, and said why (protocol/end-reason.ts), on the tunnel or when its client comes back.
  TUNNEL_REVOKED: { status: 410, retry: false, exit: 77, layer: 'sign-in' },
  TUNNEL_KILLED: { status: 403, retry: false, exit: 77, layer: 'policy' },
  TUNNEL_SHED: { status: 410, retry: true, exit: 75, layer: 'gateway' },
  TUNNEL_EXPIRED: { status: 410, retry: true, exit: 75, layer: 'policy' },
  TUNNEL_STOPPED: { status: 410, retry: true, exit: 75, layer: 'gateway' },
  TUNNEL_LOST: { status: 0, retry: true, exit: 75, layer: 'tunnel' },
  // Said by `postern listen` to programs of this machine.
  LISTENER_DENIED: { status: 407, retry: false, exit: 77, layer: 'usage' },
  LISTENER_FULL: { status: 503, retry: true, exit: 75, layer: 'usage' },
} as const satisfies Record<string, ErrorFacts>;

export type TunnelErrorCode = keyof typeof tunnelErrors;

/** Whether `text` is a code of the table; codes arrive from the wire as text. */
export function isTunnelErrorCode(text: unknown): text is TunnelErrorCode {
  return typeof text === 'string' && Object.hasOwn(tunnelErrors, text);
}

/** What a peer or an operator can cause. The message is for people and never holds a secret. */
export class TunnelError extends Error {
  override readonly name = 'TunnelError';
  readonly code: TunnelErrorCode;

  constructor(code: TunnelErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }

  get facts(): ErrorFacts {
    return tunnelErrors[this.code];
  }
}

/** `error` itself when it is a TunnelError, else an `INTERNAL` one that keeps it as the cause. */
export function toTunnelError(error: unknown): TunnelError {
  if (error instanceof TunnelError) return error;
  return new TunnelError('INTERNAL', 'the gateway failed; its log has the cause', { cause: error });
}
