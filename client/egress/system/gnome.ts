import type { RunCommand } from './run-command.ts';
import type { SystemProxy } from './system-proxy.ts';

const schema = 'org.gnome.system.proxy';

/** Reads the proxy settings of GNOME and related desktops. */
export async function readGnome(run: RunCommand, signal: AbortSignal): Promise<SystemProxy | undefined> {
  const text = await run(['gsettings', 'list-recursively', 'org.gnome.system.proxy'], signal);
  return text === undefined ? undefined : parseGsettings(text);
}

/** Parses the output of `gsettings list-recursively`; undefined when no proxy is set. */
export function parseGsettings(text: string): SystemProxy | undefined {
  const values = new Map<string, string>();
  for (const line of text.split('\n')) {
    if (!line.startsWith(schema)) continue;
    const [path = '', key = '', ...value] = line.slice(schema.length).split(' ');
    if (value.length > 0) values.set(path === '' ? key : `${path}.${key}`, value.join(' ').trimEnd());
  }
  const strings = (key: string): string[] => quotedStrings(values.get(key) ?? '');
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

/** The strings in GVariant text: in single quotes, or in double ones where there is a single one inside. */
function quotedStrings(text: string): string[] {
  const found: string[] = [];
  let quote = '';
  let current = '';
  for (let at = 0; at < text.length; at++) {
    const character = text[at]!;
    if (quote === '') {
      if (character === "'" || character === '"') quote = character;
    } else if (character === quote) {
      found.push(current);
      [quote, current] = ['', ''];
    } else {
      current += character === '\\' ? (text[++at] ?? '') : character;
    }
  }
  return found;
}
