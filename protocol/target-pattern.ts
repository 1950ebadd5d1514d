import { TunnelError } from './errors.ts';
import { formatHost, isAddress, parseTarget, quote } from './target.ts';
import type { Target } from './target.ts';

export interface TargetPattern {
  /** A name, an address, `*.suffix` (one or more labels before it), or `*`. */
  readonly host: string;
  /** `*` for any port. A pattern that names none means port 22. */
  readonly port: number | '*';
}

/**
 * Parses `name`, `address`, `*.suffix` or `*`, each with `:port`, `:*` or nothing (port 22). Throws `TARGET_INVALID`.
 * IPv6 addresses stand in brackets.
 */
export function parsePattern(text: string): TargetPattern {
  const wildcard = /^\*(?:[.:]|$)/.test(text);
  const anyPort = text.endsWith(':*');
  const middle = text.slice(wildcard ? 1 : 0, anyPort ? -2 : undefined);
  // With a label in the place of the star and a number in that of the port, the target parser reads the rest.
  const target = parseAs(`${wildcard ? 'a' : ''}${middle}${anyPort ? ':22' : ''}`, text);
  return { host: wildcard ? `*${target.host.slice(1)}` : target.host, port: anyPort ? '*' : target.port };
}

/** The pattern in the spelling that `parsePattern` accepts. */
export function formatPattern(pattern: TargetPattern): string {
  return `${formatHost(pattern.host)}:${pattern.port}`;
}

/**
 * Whether the pattern matches `target`.
 * `*.suffix` matches names below the suffix, one or more labels, never the suffix itself and never an address.
 * Bare `*` matches every name and every address; the address policy still decides which are dialled.
 */
export function patternMatches(pattern: TargetPattern, target: Target): boolean {
  if (pattern.port !== '*' && pattern.port !== target.port) return false;
  if (pattern.host === '*' || pattern.host === target.host) return true;
  return (
    pattern.host.startsWith('*.') && !isAddress(target.host) && target.host.endsWith(pattern.host.slice(1))
  );
}

function parseAs(substitute: string, text: string): Target {
  try {
    return parseTarget(substitute);
  } catch (cause) {
    const why = 'write name, *.suffix, an address or *, then nothing, :port or :*';
    throw new TunnelError('TARGET_INVALID', `${quote(text)} is not a target pattern: ${why}`, { cause });
  }
}

/** The pattern for the targets that both match; undefined when there are none. */
export function intersectPatterns(one: TargetPattern, other: TargetPattern): TargetPattern | undefined {
  const host = intersectHosts(one.host, other.host);
  const port = one.port === '*' ? other.port : one.port;
  if (host === undefined || (other.port !== '*' && other.port !== port)) return undefined;
  return { host, port };
}

/** Of two suffixes, one contains the other, or they have nothing in common. */
function intersectHosts(one: string, other: string): string | undefined {
  if (covers(other, one)) return one;
  return covers(one, other) ? other : undefined;
}

function covers(wide: string, host: string): boolean {
  if (wide === '*' || wide === host) return true;
  return wide.startsWith('*.') && host !== '*' && !isAddress(host) && host.endsWith(wide.slice(1));
}
