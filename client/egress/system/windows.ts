import type { RunCommand } from './run-command.ts';
import type { SystemProxy } from './system-proxy.ts';

const settings = 'Software\\Microsoft\\Windows\\CurrentVersion\\Internet Settings';

/** Reads the settings of the user, which browsers use, else those of the machine (WinHTTP). */
export async function readWindows(run: RunCommand, signal: AbortSignal): Promise<SystemProxy | undefined> {
  const [user, connections] = await Promise.all([
    run(['reg', 'query', `HKCU\\${settings}`], signal),
    run(['reg', 'query', `HKCU\\${settings}\\Connections`, '/v', 'DefaultConnectionSettings'], signal),
  ]);
  const ofUser = parseInternetSettings(user ?? '', connections ?? '');
  if (ofUser !== undefined) return ofUser;
  return parseWinHttp((await run(['netsh', 'winhttp', 'show', 'proxy'], signal)) ?? '');
}

/** Bits of the ninth byte of `DefaultConnectionSettings`. */
const autoDetectBit = 0x08;

/** Parses the output of `reg query` for both keys; undefined when no proxy is on. */
export function parseInternetSettings(user: string, connections: string): SystemProxy | undefined {
  const values = new Map<string, string>();
  for (const line of user.split('\n')) {
    if (!/^ {4}\S/.test(line)) continue;
    const entry = line.slice(4);
    const type = / {4}REG_\w+ {4}/.exec(entry);
    if (type === null) continue;
    values.set(entry.slice(0, type.index).toLowerCase(), entry.slice(type.index + type[0].length).trim());
  }
  const bytes = /DefaultConnectionSettings\s+REG_BINARY\s+([0-9a-f]+)/i.exec(connections)?.[1] ?? '';
  const autoDetect = (Number.parseInt(bytes.slice(16, 18) || '0', 16) & autoDetectBit) !== 0;
  const pac = values.get('autoconfigurl') || undefined;
  const isOn = Number(values.get('proxyenable') ?? '0') !== 0;
  const proxy = isOn ? proxyOf(values.get('proxyserver') ?? '') : undefined;
  if (proxy === undefined && pac === undefined && !autoDetect) return undefined;
  return {
    source: 'Windows',
    autoDetect,
    ...(pac === undefined ? {} : { pac }),
    ...(proxy === undefined ? {} : { proxy }),
    except: listOf(values.get('proxyoverride') ?? ''),
    exceptSimple: false,
  };
}

/** Parses the output of `netsh winhttp show proxy` in any language: the first value is the proxy, the second its exceptions. */
export function parseWinHttp(text: string): SystemProxy | undefined {
  const [servers = '', except = ''] = text.split('\n').flatMap((line) => valueOf(line) ?? []);
  const proxy = proxyOf(servers);
  if (proxy === undefined) return undefined;
  return {
    source: 'Windows',
    autoDetect: false,
    proxy,
    except: /^\(.*\)$/.test(except) ? [] : listOf(except),
    exceptSimple: false,
  };
}

/** The value of an indented line `name: value`; undefined for another line, and without a value. */
function valueOf(line: string): string | undefined {
  const colon = line.indexOf(':');
  const isIndented = /^[ \t]/.test(line) && line.slice(0, Math.max(colon, 0)).trim() !== '';
  if (!isIndented || !/^[ \t]/.test(line.slice(colon + 1))) return undefined;
  return line.slice(colon + 1).trim() || undefined;
}

/** Parses `p:3128`, or `http=p:80;https=p:3128;socks=q:1080`. */
function proxyOf(text: string): string | undefined {
  const parts = text.split(/[;\s]+/).filter(Boolean);
  const named = new Map<string, string>();
  for (const part of parts) {
    const equals = part.indexOf('=');
    const kind = equals === -1 ? 'https' : part.slice(0, equals).toLowerCase();
    if (!named.has(kind)) named.set(kind, part.slice(equals + 1));
  }
  const [https, socks] = [named.get('https'), named.get('socks')];
  if (https !== undefined) return https.includes('://') ? https : `http://${https}`;
  return socks && (socks.includes('://') ? socks : `socks5h://${socks}`);
}

function listOf(text: string): string[] {
  return text.split(/[;,\s]+/).filter(Boolean);
}
