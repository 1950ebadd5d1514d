import type { RunCommand } from './run-command.ts';
import type { SystemProxy } from './system-proxy.ts';

/** Reads System Settings > Network > Proxies of the current network. */
export async function readMacos(run: RunCommand, signal: AbortSignal): Promise<SystemProxy | undefined> {
  const text = await run(['/usr/sbin/scutil', '--proxy'], signal);
  return text === undefined ? undefined : parseScutil(text);
}

/** Parses the output of `scutil --proxy`; undefined when no proxy is on. */
export function parseScutil(text: string): SystemProxy | undefined {
  const values = new Map<string, string>();
  const except: string[] = [];
  for (const line of text.split('\n')) {
    const [key = '', ...rest] = line.trim().split(' : ');
    if (rest.length === 0 || !/^\w+$/.test(key)) continue;
    const value = rest.join(' : ');
    if (/^\d+$/.test(key)) except.push(value);
    else if (!value.startsWith('<')) values.set(key, value);
  }
  const isOn = (key: string): boolean => values.get(key) === '1';
  const address = (kind: string): string | undefined => {
    const [host, port] = [values.get(`${kind}Proxy`), values.get(`${kind}Port`)];
    if (!isOn(`${kind}Enable`) || host === undefined || host === '') return undefined;
    return `${host.includes(':') ? `[${host}]` : host}${port === undefined ? '' : `:${port}`}`;
  };
  const [https, socks] = [address('HTTPS'), address('SOCKS')];
  const proxy = https === undefined ? socks && `socks5h://${socks}` : `http://${https}`;
  const pac = isOn('ProxyAutoConfigEnable') ? values.get('ProxyAutoConfigURLString') : undefined;
  const autoDetect = isOn('ProxyAutoDiscoveryEnable');
  if (proxy === undefined && pac === undefined && !autoDetect) return undefined;
  return {
    source: 'macOS',
    autoDetect,
    ...(pac === undefined ? {} : { pac }),
    ...(proxy === undefined ? {} : { proxy }),
    except,
    exceptSimple: isOn('ExcludeSimpleHostnames'),
  };
}
