/** The values for the deploy files; `exampleValues` are those in the files as they are. */
export interface DeployValues {
  /** The URL at which clients reach the gateway, and the name, the port and the path in it. */
  readonly publicUrl: string;
  readonly host: string;
  readonly port: string;
  readonly prefix: string;
  /** The addresses of the web proxy, as `address:port`, for IPv4 and for IPv6. */
  readonly listen4: string;
  readonly listen6: string;
  /** The address of the gateway as this web proxy writes it, and the same as a URL. */
  readonly upstream: string;
  readonly upstreamUrl: string;
  readonly certificateFile: string;
  readonly keyFile: string;
  /** The program and its arguments, and its configuration, in the systemd unit. */
  readonly command: string;
  readonly configFile: string;
}

/** The literals of the deploy files: each is a value that works, so that the files are valid as they are. */
export const exampleValues: DeployValues = {
  publicUrl: 'https://gw.example/ssh/',
  host: 'gw.example',
  port: '443',
  prefix: '/ssh/',
  listen4: '*:443',
  listen6: '[::]:443',
  upstream: '127.0.0.1:8022',
  upstreamUrl: 'http://127.0.0.1:8022',
  certificateFile: '/etc/ssl/postern/gw.example.pem',
  keyFile: '/etc/ssl/postern/gw.example.key',
  command: '/usr/bin/postern-gateway',
  configFile: '/etc/postern/postern.yaml',
};

const names = Object.keys(exampleValues) as (keyof DeployValues)[];

// One pass, the longest literal first: a value that contains another literal is not filled in again.
const literals = new RegExp(
  names
    .map((name) => exampleValues[name])
    .toSorted((one, other) => other.length - one.length)
    .map(asWholeWord)
    .join('|'),
  'g',
);

const nameOf = new Map(names.map((name) => [exampleValues[name], name]));

/** A deploy file with its example literals replaced by `values`. */
export function fillIn(text: string, values: DeployValues): string {
  return text.replace(literals, (literal) => values[nameOf.get(literal)!]);
}

/** A pattern for the literal that does not match inside a longer word: `443`, but not `4430`. */
function asWholeWord(literal: string): string {
  const escaped = literal.replace(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
  return `${/^\w/.test(literal) ? String.raw`\b` : ''}${escaped}${/\w$/.test(literal) ? String.raw`\b` : ''}`;
}
