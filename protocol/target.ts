import { TunnelError } from './errors.ts';
import { maskSecrets } from './secret-forms.ts';

/** A host and port in canonical spelling, for policy, log, DNS and dial: lower case, no brackets. */
export interface Target {
  readonly host: string;
  readonly port: number;
}

/** The default port. */
export const sshPort = 22;

/**
 * Parses `host`, `host:port` or `[v6]:port`. Throws `TARGET_INVALID`.
 * A target that names no port has the default port, unless a port is `required`.
 */
export function parseTarget(text: string, defaultPort: number | 'required' = sshPort): Target {
  const split = /^(?:\[([^[\]]*)\]|([^:[\]]*))(?::([^:]*))?$/.exec(text);
  if (!split) throw invalid(text, 'write it as host:port or [v6]:port');
  const [, v6, name, portText] = split;
  if (portText === undefined && defaultPort === 'required') throw invalid(text, 'the port is missing');
  return {
    host: v6 === undefined ? parseHost(name!, text) : parseV6(v6, text),
    port: portText === undefined ? Number(defaultPort) : parsePort(portText, text),
  };
}

/** A target from a separate host and port, as in a URI template. Throws `TARGET_INVALID`. */
export function parseTargetParts(host: string, port: string): Target {
  // Before they are joined: `[2001:db8` and `:1]:22` must not become one address.
  parsePort(port, `${host}:${port}`);
  return parseTarget(
    `${host.includes(':') && !host.startsWith('[') ? `[${host}]` : host}:${port}`,
    'required',
  );
}

/** `host:port`, with brackets around an IPv6 address. */
export function formatTarget(target: Target): string {
  return `${formatHost(target.host)}:${target.port}`;
}

/** The host as in a URI authority (RFC 3986 section 3.2.2): brackets around an IPv6 address. */
export function formatHost(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}

/** Whether a parsed host is an address rather than a name. */
export function isAddress(host: string): boolean {
  return host.includes(':') || dottedQuad.test(host);
}

const dottedQuad = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/;
const label = /^[a-z0-9_][a-z0-9_-]{0,62}$/;
/** A ticket, in any case. */
const ticketForm = /^pt_[\w-]{40,}$/i;

const allowedCharacters = 'use letters, digits, -, _ and .';

/**
 * A name or a canonical dotted quad. A name has letters, digits, hyphens and, as names of Windows and of a person's own
 * ssh_config do, underscores; no label begins with a hyphen (other scripts as A-labels). Most names are those of the
 * operator's own `targets`, which the DNS never sees, so its narrower rule (RFC 1123 section 2.1) is not applied.
 * Everything that `getaddrinfo` would read as a disguised number (`127.1`, `0x7f.1`, `0177.0.0.1`) ends in a
 * label that is a number (WHATWG URL, "ends in a number"), and is refused.
 */
function parseHost(text: string, whole: string): string {
  const host = text.toLowerCase();
  if (host !== text && !/^[\w.-]*$/.test(text)) throw invalid(whole, allowedCharacters);
  if (ticketForm.test(host))
    throw invalid(whole, 'this is a ticket, which belongs in the place of a password');
  if (dottedQuad.test(host)) return host;
  if (host.length === 0 || host.length > 253) throw invalid(whole, 'the host is empty or too long');
  const labels = host.split('.');
  if (!labels.every((part) => label.test(part))) throw invalid(whole, allowedCharacters);
  if (/^(?:\d+|0x[0-9a-f]*)$/.test(labels.at(-1)!))
    throw invalid(whole, 'write an address as four decimal numbers');
  return host;
}

/** An IPv6 address in the spelling of RFC 5952, by the URL parser of the platform. */
function parseV6(text: string, whole: string): string {
  if (!/^[0-9A-Fa-f:.]{2,45}$/.test(text) || !URL.canParse(`http://[${text}]/`)) {
    throw invalid(whole, 'this is not an IPv6 address');
  }
  return new URL(`http://[${text}]/`).hostname.slice(1, -1);
}

function parsePort(text: string, whole: string): number {
  if (!/^[1-9][0-9]{0,4}$/.test(text) || Number(text) > 65535) throw invalid(whole, 'a port is 1 to 65535');
  return Number(text);
}

function invalid(text: string, why: string): TunnelError {
  return new TunnelError('TARGET_INVALID', `${quote(text)} is not a target: ${why}`);
}

/** At most 80 characters of `text` without secrets, everything unprintable escaped, safe for a terminal or a log. */
export function quote(text: string): string {
  // Before it is cut: half a secret has no form, and is still one.
  const masked = maskSecrets(text);
  const excerpt = masked.length > 80 ? `${masked.slice(0, 80)}…` : masked;
  return JSON.stringify(excerpt).replace(
    /[^\x20-\x7e…]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
