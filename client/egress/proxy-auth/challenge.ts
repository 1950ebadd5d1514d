/** One challenge of a `Proxy-Authenticate` header (RFC 9110 §11.3). */
export interface ProxyChallenge {
  /** In lower case. */
  readonly scheme: string;
  /** The bare token of NTLM and Negotiate. */
  readonly token?: string;
  /** By name in lower case; of two with the same name the first one is used. */
  readonly params: ReadonlyMap<string, string>;
}

const schemeName = /([A-Za-z][A-Za-z0-9-]*)(?=[ \t,]|$)(?![ \t]*=)/y;
const bareToken = /[ \t]+([A-Za-z0-9._~+/-]+=*)(?=[ \t]*(?:,|$))/y;
const param = /[ \t]*([A-Za-z0-9!#$%&'*+.^_`|~-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))/y;
const separators = /[ \t,]*/y;
const maxChallenges = 32;

/** Parses `Proxy-Authenticate`, one line or several; malformed parts are skipped. */
export function parseChallenges(header: string | readonly string[]): ProxyChallenge[] {
  return [header].flat().flatMap(parseLine).slice(0, maxChallenges);
}

function parseLine(line: string): ProxyChallenge[] {
  const found: { scheme: string; token?: string; params: Map<string, string> }[] = [];
  let at = 0;
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    const match = pattern.exec(line);
    if (match) at = pattern.lastIndex;
    return match;
  };
  while (take(separators) && at < line.length) {
    const last = found.at(-1);
    const scheme = take(schemeName);
    if (scheme) {
      const token = take(bareToken)?.[1];
      const name = scheme[1]!.toLowerCase();
      found.push({ scheme: name, ...(token === undefined ? {} : { token }), params: new Map() });
      continue;
    }
    const named = take(param);
    if (!named) {
      at = afterJunk(line, at);
      continue;
    }
    const [, name, quoted, plain] = named;
    const value = plain ?? quoted!.replaceAll(/\\(.)/g, '$1');
    if (last && !last.params.has(name!.toLowerCase())) last.params.set(name!.toLowerCase(), value);
  }
  return found;
}

/** Where the next comma outside of quotes stands, or the end. */
function afterJunk(line: string, start: number): number {
  let isQuoted = false;
  for (let at = start; at < line.length; at++) {
    const character = line[at];
    if (character === ',' && !isQuoted) return at;
    if (character === '"') isQuoted = !isQuoted;
    if (character === '\\' && isQuoted) at++;
  }
  return line.length;
}

/** Names of the schemes for people, each once, as they are usually written. */
export function schemeNames(challenges: readonly ProxyChallenge[]): string[] {
  return [...new Set(challenges.map(({ scheme }) => usualNames[scheme] ?? scheme))].slice(0, 8);
}

const usualNames: Readonly<Record<string, string>> = {
  basic: 'Basic',
  digest: 'Digest',
  ntlm: 'NTLM',
  negotiate: 'Negotiate',
  bearer: 'Bearer',
  kerberos: 'Kerberos',
};
