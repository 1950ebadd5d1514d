import { isIP } from 'node:net';
import type { Target } from '../../../protocol/target.ts';
import { isExcepted } from '../proxy/no-proxy.ts';

/** What a system says about proxies. */
export interface SystemProxy {
  /** Who says so, for people. */
  readonly source: 'macOS' | 'Windows' | 'GNOME';
  /** Whether a PAC file is to be looked for in the network (WPAD). */
  readonly autoDetect: boolean;
  /** The URL of a PAC file. */
  readonly pac?: string;
  /** As in `HTTPS_PROXY`. */
  readonly proxy?: string;
  /** Whom that proxy is not for. */
  readonly except: readonly string[];
  /** It is not for names without a dot either. */
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
    // Without an asterisk it means this one host, but in GNOME also what is under it, as in NO_PROXY.
    if (rule.includes('*')) return isLike(rule, gateway);
    const whole = wholeBlock(rule);
    const isName = isIP(gateway.host) === 0 && !rule.startsWith('.') && source !== 'GNOME';
    if (isName) return isLike(rule, gateway);
    return whole !== '' && isExcepted(whole, gateway);
  });
}

/** `169.254/16` as macOS writes it: with all of its numbers. */
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
  // The parts between have to follow each other; no regular expression of somebody else's making.
  let at = first.length;
  for (const part of parts.slice(1, -1)) {
    const found = host.indexOf(part, at);
    if (found === -1) return false;
    at = found + part.length;
  }
  return at <= host.length - last.length;
}
