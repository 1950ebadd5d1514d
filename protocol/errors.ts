/** A row of the error table: how a failure is answered, and what it means to the caller. */
interface ErrorFacts {
  /** The HTTP status of a refusal; 0: never answered over HTTP. */
  readonly status: number;
  /** Whether the same request can succeed later. */
  readonly retry: boolean;
  /** The exit code of `postern connect`. */
  readonly exit: number;
  /** The layer that failed or refused. */
  readonly layer: Layer;
  /** The party that has to change something; `path`: an intermediary, or the network between client and gateway. */
  readonly side: 'caller' | 'path' | 'gateway' | 'target';
  /**
   * Whether it ends the attempts to resume a tunnel. Any other failure can be a hotel's sign-in page, or a proxy that is
   * restarting.
   */
  readonly final?: boolean;
  /** A command to paste that helps whatever the details are. */
  readonly hint?: string;
  /** The error type of RFC 9209 §2.3, where the next hop is at fault. */
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

/** Every failure of a tunnel. `docs/errors.md` explains each code; a test keeps the two together. */
export const tunnelErrors = {
  // The request itself.
  REQUEST_INVALID: { status: 400, retry: false, exit: 1, layer: 'http', side: 'caller', final: true },
  HEADERS_TOO_LARGE: { status: 431, retry: false, exit: 1, layer: 'http', side: 'caller' },
  REQUEST_TIMEOUT: { status: 408, retry: true, exit: 75, layer: 'http', side: 'caller' },
  TARGET_INVALID: {
    status: 400,
    retry: false,
    exit: 2,
    layer: 'usage',
    side: 'caller',
    hint: 'postern connect --help',
  },
  ENTRY_UNKNOWN: { status: 404, retry: false, exit: 78, layer: 'upgrade', side: 'path' },
  UPGRADE_REQUIRED: { status: 426, retry: false, exit: 69, layer: 'upgrade', side: 'path' },
  ORIGIN_DENIED: { status: 403, retry: false, exit: 77, layer: 'policy', side: 'caller', final: true },
  SIGN_IN_TIMEOUT: { status: 408, retry: true, exit: 75, layer: 'sign-in', side: 'caller' },
  // The credentials. Both are answered as TOKEN_INVALID: a stranger learns nothing from the difference.
  TOKEN_MISSING: {
    status: 401,
    retry: false,
    exit: 77,
    layer: 'sign-in',
    side: 'caller',
    final: true,
    hint: 'postern login',
  },
  TOKEN_INVALID: {
    status: 401,
    retry: false,
    exit: 77,
    layer: 'sign-in',
    side: 'caller',
    final: true,
    hint: 'postern status',
  },
  ISSUER_UNAVAILABLE: { status: 503, retry: true, exit: 75, layer: 'sign-in', side: 'gateway' },
  // What is allowed.
  TARGET_DENIED: { status: 403, retry: false, exit: 77, layer: 'policy', side: 'caller', final: true },
  ADDRESS_DENIED: {
    status: 403,
    retry: false,
    exit: 77,
    layer: 'policy',
    side: 'caller',
    final: true,
    proxyStatus: 'destination_ip_prohibited',
  },
  LIMIT_SUBJECT: { status: 429, retry: true, exit: 75, layer: 'policy', side: 'caller' },
  LIMIT_ADDRESS: { status: 429, retry: true, exit: 75, layer: 'policy', side: 'caller' },
  LIMIT_TARGET: { status: 429, retry: true, exit: 75, layer: 'policy', side: 'target' },
  LIMIT_RATE: { status: 429, retry: true, exit: 75, layer: 'policy', side: 'caller' },
  LIMIT_TUNNELS: { status: 503, retry: true, exit: 75, layer: 'gateway', side: 'gateway' },
  // The gateway.
  DRAINING: { status: 503, retry: true, exit: 75, layer: 'gateway', side: 'gateway' },
  AUDIT_UNAVAILABLE: { status: 503, retry: true, exit: 75, layer: 'gateway', side: 'gateway' },
  STORE_UNAVAILABLE: { status: 503, retry: true, exit: 75, layer: 'gateway', side: 'gateway' },
  INTERNAL: {
    status: 500,
    retry: true,
    exit: 1,
    layer: 'gateway',
    side: 'gateway',
    proxyStatus: 'proxy_internal_error',
  },
  // The next hop.
  NAME_NOT_FOUND: {
    status: 502,
    retry: false,
    exit: 69,
    layer: 'target',
    side: 'target',
    proxyStatus: 'dns_error',
  },
  NAME_FAILED: {
    status: 502,
    retry: true,
    exit: 75,
    layer: 'target',
    side: 'target',
    proxyStatus: 'dns_error',
  },
  NAME_TIMEOUT: {
    status: 504,
    retry: true,
    exit: 75,
    layer: 'target',
    side: 'target',
    proxyStatus: 'dns_timeout',
  },
  DIAL_REFUSED: {
    status: 502,
    retry: true,
    exit: 69,
    layer: 'target',
    side: 'target',
    proxyStatus: 'connection_refused',
  },
  DIAL_TIMEOUT: {
    status: 504,
    retry: true,
    exit: 75,
    layer: 'target',
    side: 'target',
    proxyStatus: 'connection_timeout',
  },
  DIAL_UNREACHABLE: {
    status: 502,
    retry: true,
    exit: 69,
    layer: 'target',
    side: 'target',
    proxyStatus: 'destination_ip_unroutable',
  },
  DIAL_EXHAUSTED: {
    status: 503,
    retry: true,
    exit: 75,
    layer: 'gateway',
    side: 'gateway',
    proxyStatus: 'connection_limit_reached',
  },
  // Resuming a tunnel whose connection was lost.
  TUNNEL_GONE: { status: 410, retry: true, exit: 75, layer: 'gateway', side: 'gateway', final: true },
  TUNNEL_UNREACHABLE: { status: 503, retry: true, exit: 75, layer: 'gateway', side: 'gateway' },
  REJOIN_INVALID: { status: 409, retry: false, exit: 1, layer: 'tunnel', side: 'caller', final: true },
  // Seen by the client only.
  USAGE: { status: 0, retry: false, exit: 2, layer: 'usage', side: 'caller', hint: 'postern --help' },
  CONFIG_INVALID: { status: 0, retry: false, exit: 78, layer: 'configuration', side: 'caller', final: true },
  GATEWAY_UNSET: {
    status: 0,
    retry: false,
    exit: 78,
    layer: 'configuration',
    side: 'caller',
    hint: 'postern setup --gateway https://gw.example/ssh/',
  },
  PROXY_UNREACHABLE: { status: 0, retry: true, exit: 69, layer: 'proxy', side: 'path' },
  PROXY_SIGN_IN: { status: 0, retry: false, exit: 77, layer: 'proxy', side: 'path' },
  PROXY_REFUSED: { status: 0, retry: false, exit: 69, layer: 'proxy', side: 'path' },
  PAC_FAILED: { status: 0, retry: true, exit: 69, layer: 'proxy', side: 'path' },
  GATEWAY_UNREACHABLE: { status: 0, retry: true, exit: 69, layer: 'network', side: 'path' },
  GATEWAY_TIMEOUT: { status: 0, retry: true, exit: 75, layer: 'network', side: 'path' },
  SIGN_IN_FAILED: {
    status: 0,
    retry: false,
    exit: 77,
    layer: 'sign-in',
    side: 'caller',
    hint: 'postern login',
  },
  TLS_FAILED: { status: 0, retry: false, exit: 69, layer: 'tls', side: 'path' },
  HTTP_UNEXPECTED: { status: 0, retry: false, exit: 69, layer: 'http', side: 'path' },
  UPGRADE_REFUSED: { status: 0, retry: false, exit: 69, layer: 'upgrade', side: 'path' },
  TARGET_NOT_SSH: { status: 0, retry: false, exit: 69, layer: 'target', side: 'target' },
  OUTPUT_FAILED: { status: 0, retry: false, exit: 74, layer: 'usage', side: 'caller' },
  // The gateway has ended a tunnel, and given the reason (protocol/end-reason.ts), on the tunnel or when its client resumes it.
  TUNNEL_REVOKED: { status: 410, retry: false, exit: 77, layer: 'sign-in', side: 'caller', final: true },
  TUNNEL_KILLED: { status: 403, retry: false, exit: 77, layer: 'policy', side: 'caller', final: true },
  TUNNEL_SHED: { status: 410, retry: true, exit: 75, layer: 'gateway', side: 'gateway', final: true },
  TUNNEL_DISPLACED: { status: 410, retry: true, exit: 75, layer: 'policy', side: 'caller', final: true },
  TUNNEL_EXPIRED: { status: 410, retry: true, exit: 75, layer: 'policy', side: 'caller', final: true },
  TUNNEL_STOPPED: { status: 410, retry: true, exit: 75, layer: 'gateway', side: 'gateway', final: true },
  TUNNEL_LOST: { status: 0, retry: true, exit: 75, layer: 'tunnel', side: 'path' },
  // Answers of `postern listen` to programs on this machine.
  LISTENER_DENIED: { status: 407, retry: false, exit: 77, layer: 'usage', side: 'caller' },
  LISTENER_FULL: { status: 503, retry: true, exit: 75, layer: 'usage', side: 'caller' },
} as const satisfies Record<string, ErrorFacts>;

export type TunnelErrorCode = keyof typeof tunnelErrors;

/** Whether `text` is a code of the table; codes arrive from the wire as text. */
export function isTunnelErrorCode(text: unknown): text is TunnelErrorCode {
  return typeof text === 'string' && Object.hasOwn(tunnelErrors, text);
}

/** A failure that a peer or an operator can cause. The message is for people and never holds a secret. */
export class TunnelError extends Error {
  override readonly name = 'TunnelError';
  readonly code: TunnelErrorCode;
  /** When the same request can succeed, in milliseconds, where that is known. */
  readonly retryAfterMs: number | undefined;

  constructor(
    code: TunnelErrorCode,
    message: string,
    options?: ErrorOptions & { readonly retryAfterMs?: number },
  ) {
    super(message, options);
    this.code = code;
    this.retryAfterMs = options?.retryAfterMs;
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
