import type { RunCommand } from './run-command.ts';
import type { SystemProxy } from './system-proxy.ts';

/** Reads the proxy settings of GNOME and related desktops. */
export async function readGnome(run: RunCommand, signal: AbortSignal): Promise<SystemProxy | undefined> {
  const text = await run(['gsettings', 'list-recursively', 'org.gnome.system.proxy'], signal);
  return text === undefined ? undefined : parseGsettings(text);
}

/** Parses the output of `gsettings list-recursively`; undefined when no proxy is set. */
export function parseGsettings(text: string): SystemProxy | undefined {
  const values = new Map<string, string>();
  for (const [, path, key, value] of text.matchAll(/^org\.gnome\.system\.proxy(\S*) (\S+) (.*?)\s*$/gm)) {
    values.set(`${path}.${key}`.slice(path === '' ? 1 : 0), value!);
  }
  const strings = (key: string): string[] =>
    // GVariant text: single quotes, or double ones where there is a single one inside.
    [...(values.get(key) ?? '').matchAll(/'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"/g)].map(([, one, two]) =>
      (one ?? two ?? '').replaceAll(/\\(.)/g, '$1'),
    );
  const [mode] = strings('mode');
  const base = { source: 'GNOME', except: strings('ignore-hosts'), exceptSimple: false } as const;
  if (mode === 'auto') {
    const [pac = ''] = strings('autoconfig-url');
    return pac === '' ? { ...base, autoDetect: true } : { ...base, autoDetect: false, pac };
  }
  const address = (kind: string): string | undefined => {
    const [[host = ''], port] = [strings(`.${kind}.host`), Number(values.get(`.${kind}.port`))];
    if (host === '') return undefined;
    return `${host.includes(':') ? `[${host}]` : host}${port > 0 ? `:${port}` : ''}`;
  };
  const [https, socks] = [address('https'), address('socks')];
  const proxy = https === undefined ? socks && `socks5h://${socks}` : `http://${https}`;
  if (mode !== 'manual' || proxy === undefined) return undefined;
  return { ...base, autoDetect: false, proxy };
}
