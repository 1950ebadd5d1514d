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
  // With a label for the star and a number for the port, what is left is read by the one grammar of targets.
  const target = parseAs(`${wildcard ? 'a' : ''}${middle}${anyPort ? ':22' : ''}`, text);
  return { host: wildcard ? `*${target.host.slice(1)}` : target.host, port: anyPort ? '*' : target.port };
}

/** The pattern in the spelling that `parsePattern` reads. */
export function formatPattern(pattern: TargetPattern): string {
  return `${formatHost(pattern.host)}:${pattern.port}`;
}

/**
 * Whether `target` is one of those the pattern names.
 * `*.suffix` is for names below the suffix, one or more labels, never the suffix itself and never an address.
 * Bare `*` is for every name and every address: the network's own ranges still decide what is dialled.
 */
export function patternMatches(pattern: TargetPattern, target: Target): boolean {
  if (pattern.port !== '*' && pattern.port !== target.port) return false;
  if (pattern.host === '*' || pattern.host === target.host) return true;
  return (
    pattern.host.startsWith('*.') && !isAddress(target.host) && target.host.endsWith(pattern.host.slice(1))
  );
}

function parseAs(stand: string, text: string): Target {
  try {
    return parseTarget(stand);
  } catch (cause) {
    const why = 'write name, *.suffix, an address or *, then nothing, :port or :*';
    throw new TunnelError('TARGET_INVALID', `${quote(text)} is not a target pattern: ${why}`, { cause });
  }
}

/** The pattern for the targets that both name; undefined when there is none. */
export function intersectPatterns(one: TargetPattern, other: TargetPattern): TargetPattern | undefined {
  const host = intersectHosts(one.host, other.host);
  const port = one.port === '*' ? other.port : one.port;
  if (host === undefined || (other.port !== '*' && other.port !== port)) return undefined;
  return { host, port };
}

/** Suffixes lie one inside the other, or apart. */
function intersectHosts(one: string, other: string): string | undefined {
  if (covers(other, one)) return one;
  return covers(one, other) ? other : undefined;
}

function covers(wide: string, host: string): boolean {
  if (wide === '*' || wide === host) return true;
  return wide.startsWith('*.') && host !== '*' && !isAddress(host) && host.endsWith(wide.slice(1));
}
