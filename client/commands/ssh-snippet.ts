import { portBlocks, readSshHost, uniqueSshHosts } from '../../protocol/ssh-hosts.ts';
import { quote } from '../../protocol/target.ts';
import { ClientError } from '../errors/failure.ts';

/** `pattern` itself when it can stand in a Host line and mean nothing else, but for its port. Throws `USAGE`. */
export function checkPattern(pattern: string): string {
  // ssh reads brackets in a Host line as letters.
  if (!pattern.startsWith('[') && readSshHost(pattern)) return pattern;
  throw new ClientError(
    'USAGE',
    `${quote(pattern)} is not a host pattern: use letters, digits, - _ . * and ?, then nothing or :port`,
    {
      hint: 'postern setup --help',
    },
  );
}

/** The ssh configuration that sends `hosts` through `program`: the paths of Node.js and of this script. */
export function hostBlock(hosts: readonly string[], program: readonly string[], isWindows: boolean): string {
  const command = program.map((path) => quotePath(path, isWindows)).join(' ');
  // A host name of an old ssh may hold anything; on Windows no shell reads the line. `--` ends the options.
  const sshHosts = uniqueSshHosts(hosts.flatMap((host) => readSshHost(host) ?? []));
  const arguments_ = isWindows ? '%h %p' : "'%h' '%p'";
  return `# Written by "postern setup"; change it by running that again.
${portBlocks(sshHosts)}Host ${sshHosts.map(({ host }) => host).join(' ')}
  ProxyCommand ${command} connect -- ${arguments_}
  # postern gives up after 30 seconds and gives the reason; ssh must not give up first.
  ConnectTimeout 45
`;
}

/** The Include line for the user's own configuration. Throws `CONFIG_INVALID` for a path that ssh would interpret differently. */
export function includeLine(path: string): string {
  const escaped = process.platform === 'win32' ? path.replaceAll('\\', '/') : path;
  // oxlint-disable-next-line no-control-regex
  if (/[\x00-\x1f\x7f"'*?[\]\\%$]/.test(escaped)) {
    throw new ClientError(
      'CONFIG_INVALID',
      `ssh cannot include ${quote(path)}: its name has special characters`,
      {
        hint: 'export XDG_CONFIG_HOME=/another/place',
      },
    );
  }
  return `Include "${escaped}"\n`;
}

/** One word for the shell (or, on Windows, for the program start) that ssh runs, after ssh's own percent expansion. */
function quotePath(path: string, isWindows: boolean): string {
  // oxlint-disable-next-line no-control-regex
  if (/[\x00-\x1f\x7f]/.test(path) || (isWindows && path.includes('"'))) {
    throw new ClientError('CONFIG_INVALID', `ssh cannot run ${quote(path)}: its name has special characters`);
  }
  const escaped = path.replaceAll('%', '%%');
  return isWindows ? `"${escaped}"` : `'${escaped.replaceAll("'", `'\\''`)}'`;
}
