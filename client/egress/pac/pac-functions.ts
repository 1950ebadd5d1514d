// The functions of PAC files that need nothing of this machine, with the results that Chromium gives. They run inside the
// sandbox: their text is evaluated there before the PAC file, which can pass them on, replace them, and replace the `Date`
// and the `dnsResolve` that they use. They compare by `==` where browsers do: files pass lists and String objects. A function can use no more than the others and the globals that are declared here.

/** The first IPv4 address of a name, or null. */
declare function dnsResolve(host: string): string | null;
/** All addresses of a name, separated by `;`, or an empty text. */
declare function dnsResolveEx(host: string): string;

const monthNames = ['JAN', 'FEB', 'MAR', 'APR', 'MAY', 'JUN', 'JUL', 'AUG', 'SEP', 'OCT', 'NOV', 'DEC'];
const dayNames = ['SUN', 'MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT'];
const tableOfNames = { months: numbered(monthNames), wdays: numbered(dayNames) };

function numbered(names: readonly string[]): Readonly<Record<string, number>> {
  return Object.fromEntries(names.map((name, number) => [name, number]));
}

declare const months: Readonly<Record<string, number>>;
declare const wdays: Readonly<Record<string, number>>;

function dnsDomainIs(host: string, domain: string): boolean {
  return host.length >= domain.length && host.substring(host.length - domain.length) == domain;
}

function dnsDomainLevels(host: string): number {
  return host.split('.').length - 1;
}

function localHostOrDomainIs(host: string, domain: string): boolean {
  return host == domain || domain.lastIndexOf(`${host}.`, 0) === 0;
}

function isResolvable(host: string): boolean {
  return dnsResolve(host) != null;
}

function isResolvableEx(host: string): boolean {
  return dnsResolveEx(host) !== '';
}

function isValidIpAddress(text: string): boolean {
  const bytes = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  return bytes !== null && bytes.slice(1).every((byte) => Number(byte) <= 255);
}

/** The 32 bits of an IPv4 address as a signed integer. */
function convert_addr(address: string): number {
  const bytes = address.split('.').map((byte) => Number(byte) & 255);
  return (bytes[0]! << 24) | (bytes[1]! << 16) | (bytes[2]! << 8) | bytes[3]!;
}

function isInNet(host: string, pattern: string, mask: string): boolean {
  if (!isValidIpAddress(pattern) || !isValidIpAddress(mask)) return false;
  const address = isValidIpAddress(host) ? host : dnsResolve(host);
  if (address == null) return false;
  return (convert_addr(address) & convert_addr(mask)) === (convert_addr(pattern) & convert_addr(mask));
}

/** Shell patterns with `*` and `?`. Browsers hand the rest to a regular expression, and PAC files rely on it: `(a|b).*`. */
function shExpMatch(text: string, pattern: string): boolean {
  const expression = pattern.replace(/\./g, '\\.').replace(/\*/g, '.*').replace(/\?/g, '.');
  return new RegExp(`^${expression}$`).test(text);
}

function weekdayRange(...names: string[]): boolean {
  const isGmt = names[names.length - 1] === 'GMT';
  if (names.length === 0) return false;
  const days = isGmt ? names.slice(0, -1) : names;
  const now = new Date();
  const today = isGmt ? now.getUTCDay() : now.getDay();
  const first = wdays[days[0]!];
  const last = days.length === 2 ? wdays[days[1]!] : first;
  if (first === undefined || last === undefined) return false;
  return first <= last ? first <= today && today <= last : today <= last || first <= today;
}

/** Compares with a first and a last moment of this year, in which the arguments are set one after the other. */
function dateRange(...fields: (string | number)[]): boolean {
  if (fields.length === 0) return false;
  const isGmt = fields[fields.length - 1] === 'GMT';
  if (isGmt) fields.pop();
  const now = new Date();
  const today = isGmt ? new Date(now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate()) : now;
  if (isGmt) today.setHours(now.getUTCHours(), now.getUTCMinutes(), now.getUTCSeconds());
  if (fields.length === 1) {
    const field = Number.parseInt(String(fields[0]), 10);
    if (Number.isNaN(field)) return today.getMonth() === months[fields[0]!];
    return (field < 32 ? today.getDate() : today.getFullYear()) === field;
  }
  const first = new Date(now.getFullYear(), 0, 1, 0, 0, 0);
  const last = new Date(now.getFullYear(), 11, 31, 23, 59, 59);
  const half = fields.length >> 1;
  fields.forEach((each, at) => {
    const date = at < half ? first : last;
    const field = Number.parseInt(String(each), 10);
    if (Number.isNaN(field)) date.setMonth(months[each] ?? -1);
    else if (field < 32) date.setDate(field);
    else date.setFullYear(field);
  });
  if (fields.length === 2 && fields.some((each) => Number.parseInt(String(each), 10) < 32)) {
    first.setMonth(now.getMonth());
    last.setMonth(now.getMonth());
  }
  return first <= last ? first <= today && today <= last : today <= last || first <= today;
}

function timeRange(...fields: (string | number)[]): boolean {
  if (fields.length === 0) return false;
  const isGmt = fields[fields.length - 1] === 'GMT';
  const [one, two, three, four, five, six] = fields.slice(0, isGmt ? -1 : undefined).map(Number);
  const count = fields.length - (isGmt ? 1 : 0);
  const now = new Date();
  const hour = isGmt ? now.getUTCHours() : now.getHours();
  // Over midnight only where minutes are given.
  if (count === 1) return hour === one;
  if (count === 2) return one! <= hour && hour <= two!;
  if (count !== 4 && count !== 6) throw new Error('timeRange: bad number of arguments');
  const minute = isGmt ? now.getUTCMinutes() : now.getMinutes();
  const second = (hour * 60 + minute) * 60 + (isGmt ? now.getUTCSeconds() : now.getSeconds());
  const [first, last] = (
    count === 4 ? [one!, two!, 0, three!, four!, 59] : [one!, two!, three!, four!, five!, six!]
  ).reduce<[number, number]>(
    ([from, to], each, at) => (at < 3 ? [from * 60 + each, to] : [from, to * 60 + each]),
    [0, 0],
  );
  return first <= last ? first <= second && second <= last : second <= last || first <= second;
}

const functions = {
  dnsDomainIs,
  dnsDomainLevels,
  localHostOrDomainIs,
  isResolvable,
  isResolvableEx,
  isValidIpAddress,
  convert_addr,
  isInNet,
  shExpMatch,
  weekdayRange,
  dateRange,
  timeRange,
};

/** Each match as the properties of RegExp that old files read (`RegExp.$1`) have it; QuickJS has none of them. */
function keepLastMatch(): void {
  const expressions: object = RegExp.prototype;
  const { exec } = expressions as { exec: (this: RegExp, text: string) => RegExpExecArray | null };
  let last: {
    readonly [group: number]: string | undefined;
    readonly index: number;
    input: string;
    length: number;
  };
  last = Object.assign([''], { index: 0, input: '' });
  const keep = function (this: RegExp, text: string): RegExpExecArray | null {
    const match = exec.call(this, text);
    if (match !== null) last = match;
    return match;
  };
  Object.defineProperty(expressions, 'exec', { value: keep, writable: true, configurable: true });
  const properties: Record<string, () => string | undefined> = {
    lastMatch: () => last[0],
    lastParen: () => (last.length > 1 ? last[last.length - 1] : ''),
    leftContext: () => last.input.slice(0, last.index),
    rightContext: () => last.input.slice(last.index + last[0]!.length),
    input: () => last.input,
  };
  for (let group = 1; group <= 9; group++) properties[`$${group}`] = () => last[group];
  for (const name in properties) {
    const get = (): string => properties[name]!() || '';
    Object.defineProperty(RegExp, name, { get, set() {}, configurable: true });
  }
}

/** A script that defines the functions, and the tables of names that browsers define too, as globals. */
export function pacFunctionsScript(): string {
  const tables = Object.entries(tableOfNames).map(
    ([name, table]) => `var ${name} = ${JSON.stringify(table)};`,
  );
  return [...tables, ...Object.values(functions).map(String), `(${String(keepLastMatch)})();`].join('\n');
}
