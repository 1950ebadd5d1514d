/** A pattern of a Host line of ssh_config(5), and the port that ssh uses for it. */
export interface SshHost {
  readonly host: string;
  readonly port: number;
}

const defaultPort = 22;

/**
 * Reads a host pattern, alone or with `:port`; `:*` means any port, and so does not change the one that ssh uses. An IPv6
 * address stands in brackets. Undefined for what a Host line would read differently.
 */
export function readSshHost(text: string): SshHost | undefined {
  const [, name, address, port] =
    /^(?:([\w.*?][\w.*?-]{0,252})|\[([0-9A-Fa-f:.]{2,45})\])(?::(\d{1,5}|\*))?$/.exec(text) ?? [];
  const host = name ?? address;
  const number = port === undefined || port === '*' ? defaultPort : Number(port);
  return host === undefined || number < 1 || number > 65_535 ? undefined : { host, port: number };
}

/** Each host once: with its usual port where that is among those given, otherwise with the first. */
export function uniqueSshHosts(hosts: readonly SshHost[]): readonly SshHost[] {
  const byName = new Map<string, SshHost>();
  for (const each of hosts)
    if (each.port === defaultPort || !byName.has(each.host)) byName.set(each.host, each);
  return [...byName.values()];
}

/**
 * The blocks that give hosts a port other than 22. Of several blocks that match a host ssh takes the first: exact names come
 * before patterns, and where a pattern has a port, hosts that it could match get theirs, even if it is 22.
 */
export function portBlocks(hosts: readonly SshHost[]): string {
  const hasPortedPattern = hosts.some(({ host, port }) => isPattern(host) && port !== defaultPort);
  return hosts
    .filter(({ port }) => hasPortedPattern || port !== defaultPort)
    .toSorted(
      (one, other) =>
        Number(isPattern(one.host)) - Number(isPattern(other.host)) || other.host.length - one.host.length,
    )
    .map(({ host, port }) => `Host ${host}\n  Port ${port}\n`)
    .join('');
}

function isPattern(host: string): boolean {
  return /[*?]/.test(host);
}
