import { isIP } from 'node:net';
import type { Target } from '../../../protocol/target.ts';
import { isExcepted } from '../proxy/no-proxy.ts';

/** The proxy settings of a system. */
export interface SystemProxy {
  /** The source, for people. */
  readonly source: 'macOS' | 'Windows' | 'GNOME';
  /** Whether to detect a PAC file in the network (WPAD). */
  readonly autoDetect: boolean;
  /** The URL of a PAC file. */
  readonly pac?: string;
  /** As in `HTTPS_PROXY`. */
  readonly proxy?: string;
  /** Hosts that are reached without that proxy. */
  readonly except: readonly string[];
  /** Whether names without a dot are exceptions too. */
  readonly exceptSimple: boolean;
}

/** Whether the system's own list names the gateway: names, `*` for any text, addresses, CIDR, `<local>`. */
export function isExceptedBySystem({ source, except, exceptSimple }: SystemProxy, gateway: Target): boolean {
  const isSimple = isIP(gateway.host) === 0 && !gateway.host.replace(/\.$/, '').includes('.');
  if (isSimple && exceptSimple) return true;
  return except.some((item) => {
    const rule = item
      .trim()
      .toLowerCase()
      .replace(/^[a-z]+:\/\//, '');
    if (rule === '<local>') return isSimple;
    // Without an asterisk it means this host only, but in GNOME also its subdomains, as in NO_PROXY.
    if (rule.includes('*')) return isLike(rule, gateway);
    const whole = wholeBlock(rule);
    const isName = isIP(gateway.host) === 0 && !rule.startsWith('.') && source !== 'GNOME';
    if (isName) return isLike(rule, gateway);
    return whole !== '' && isExcepted(whole, gateway);
  });
}

/** Completes `169.254/16`, as macOS writes it, to four numbers. */
function wholeBlock(rule: string): string {
  const short = /^(\d+(?:\.\d+){0,2})\/(\d+)$/.exec(rule);
  if (!short) return rule;
  const numbers = [...short[1]!.split('.'), '0', '0', '0'].slice(0, 4);
  return `${numbers.join('.')}/${short[2]}`;
}

function isLike(rule: string, { host, port }: Target): boolean {
  const [, pattern = '', wanted] = /^(.*?)(?::(\d+))?$/.exec(rule)!;
  if (wanted !== undefined && Number(wanted) !== port) return false;
  const parts = pattern.split('*');
  const [first, last] = [parts[0]!, parts.at(-1)!];
  if (parts.length === 1) return pattern === host;
  if (!host.startsWith(first) || !host.endsWith(last) || host.length < first.length + last.length)
    return false;
  // The parts between have to follow each other. Not a regular expression, which the settings could make slow.
  let at = first.length;
  for (const part of parts.slice(1, -1)) {
    const found = host.indexOf(part, at);
    if (found === -1) return false;
    at = found + part.length;
  }
  return at <= host.length - last.length;
}
