import { rmSync, rmdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from '../../base/parse-args.ts';
import { absolutePath } from '../errors/absolute-path.ts';
import { ClientError } from '../errors/failure.ts';
import { clearLastError } from '../errors/report.ts';
import { readSmall, reason, replaceFile, writePrivate } from '../os/files.ts';
import { userPaths } from '../os/xdg-paths.ts';
import type { Environment, UserPaths } from '../os/xdg-paths.ts';
import { printable } from '../os/terminal.ts';
import { configPath, readConfigFile } from '../settings.ts';
import { parseGateway } from '../http/gateway-url.ts';
import type { ConfigFile } from '../settings.ts';
import { loadTrust } from '../egress/tls/tls.ts';
import { findSshConfig, withInclude, withoutInclude } from './ssh-config.ts';
import type { SshConfig } from './ssh-config.ts';
import { checkPattern, hostBlock, includeLine } from './ssh-snippet.ts';

/** One file to write or to remove; undefined bytes mean no file. */
interface Change {
  readonly path: string;
  readonly before: Buffer | undefined;
  readonly after: Buffer | undefined;
  readonly mode: number;
}

/** Runs `postern setup`. Throws `USAGE`, `CONFIG_INVALID`, `GATEWAY_UNSET`. */
export function setup(args: readonly string[], env: Environment, print: (text: string) => void): number {
  const { values } = parseArgs({
    args: [...args],
    options: {
      gateway: { type: 'string' },
      host: { type: 'string', multiple: true },
      'ca-file': { type: 'string' },
      'dry-run': { type: 'boolean' },
      remove: { type: 'boolean' },
    },
  });
  const paths = userPaths(env);
  const remove = values.remove === true;
  if (remove && (values.gateway ?? values.host ?? values['ca-file']) !== undefined) {
    throw new ClientError('USAGE', '--remove removes everything; it combines only with --dry-run', {
      hint: 'postern setup --remove',
    });
  }
  const changes = remove ? removal(paths) : addition(paths, values, env);
  const wanted = changes.filter(({ before, after }) => !same(before, after));
  if (wanted.length === 0) print('nothing to change\n');
  for (const change of wanted) {
    if (values['dry-run'] !== true) apply(change);
    print(values['dry-run'] === true ? preview(change) : `${verb(change)} ${printable(change.path)}\n`);
  }
  if (values['dry-run'] === true) return 0;
  // What went wrong with other settings is of no use any more.
  if (wanted.length > 0) clearLastError(paths.state);
  if (remove) removeEmpty(paths.config);
  else if (wanted.length > 0) print(nextStep(values.host ?? readConfigFile(paths)?.hosts ?? [], env));
  return 0;
}

/** The steps after a setup: the sign-in, unless a token is given, and the first host. */
function nextStep(hosts: readonly string[], env: Environment): string {
  const name = hosts.find((pattern) => !/[*?!]/.test(pattern)) ?? 'HOST';
  const steps = [
    ...(env['POSTERN_TOKEN_FILE'] || env['POSTERN_TOKEN'] ? [] : ['postern login']),
    ...(hosts.length === 0 ? [] : [`ssh ${printable(name)}`]),
  ];
  return `Done.${steps.length === 0 ? '' : ` Next: ${steps.join(', then ')}`}\n`;
}

interface SetupOptions {
  readonly gateway?: string | undefined;
  readonly host?: readonly string[] | undefined;
  readonly 'ca-file'?: string | undefined;
}

function addition(paths: UserPaths, options: SetupOptions, env: Environment): Change[] {
  const before = readConfigFile(paths);
  const gateway = options.gateway ?? before?.gateway ?? (env['POSTERN_GATEWAY'] || undefined);
  if (gateway === undefined) throw new ClientError('GATEWAY_UNSET', 'no gateway is given; use --gateway');
  const caFile =
    options['ca-file'] === undefined ? before?.caFile : absolutePath(options['ca-file'], '--ca-file');
  // Fail now rather than in the middle of an ssh.
  loadTrust(caFile);
  const hosts = (options.host ?? before?.hosts ?? []).map(checkPattern);
  const ssh = hosts.length === 0 ? undefined : findSshConfig(paths.home);
  const config: ConfigFile = {
    gateway: parseGateway(gateway).href,
    ...(caFile === undefined ? {} : { caFile }),
    ...(hosts.length === 0 ? {} : { hosts }),
    ...(before?.createdSshConfig || (ssh && ssh.bytes === undefined) ? { createdSshConfig: true } : {}),
  };
  const own = change(configPath(paths), Buffer.from(`${JSON.stringify(config, null, 2)}\n`));
  if (ssh === undefined) return [own];
  const snippet = change(
    snippetPath(paths),
    Buffer.from(hostBlock(hosts, program(), process.platform === 'win32')),
  );
  const line = includeLine(snippetPath(paths));
  // The Include comes last: until then nothing has changed for ssh.
  return [own, snippet, sshChange(ssh, withInclude(ssh.bytes ?? Buffer.alloc(0), line))];
}

function removal(paths: UserPaths): Change[] {
  const created = configCreated(paths);
  const ssh = findSshConfig(paths.home);
  const rest = ssh.bytes && withoutInclude(ssh.bytes, includeLine(snippetPath(paths)));
  const after = created && rest?.length === 0 ? undefined : rest;
  return [sshChange(ssh, after), change(snippetPath(paths), undefined), change(configPath(paths), undefined)];
}

/** False for a damaged file: removing has to work with one too. */
function configCreated(paths: UserPaths): boolean {
  try {
    return readConfigFile(paths)?.createdSshConfig === true;
  } catch {
    return false;
  }
}

/** The paths of Node.js and of this program. */
function program(): readonly string[] {
  const script = resolve(process.argv[1] ?? '');
  if (/[/\\]_npx[/\\]/.test(script)) {
    throw new ClientError(
      'CONFIG_INVALID',
      'npx keeps this program only temporarily, but ssh needs it later',
      {
        hint: 'npm install --global postern',
      },
    );
  }
  return [process.execPath, script];
}

function snippetPath(paths: UserPaths): string {
  return join(paths.config, 'ssh_config');
}

function sshChange(ssh: SshConfig, after: Buffer | undefined): Change {
  return { path: ssh.path, before: ssh.bytes, after, mode: ssh.mode };
}

function change(path: string, after: Buffer | undefined): Change {
  return { path, before: current(path), after, mode: 0o600 };
}

function current(path: string): Buffer | undefined {
  try {
    return readSmall(path, 1024 * 1024).bytes;
  } catch (cause) {
    if (reason(cause) === 'ENOENT' || reason(cause) === 'ENOTDIR') return undefined;
    throw new ClientError('CONFIG_INVALID', `cannot read ${path}: ${reason(cause)}`, { cause });
  }
}

function same(before: Buffer | undefined, after: Buffer | undefined): boolean {
  return before === undefined || after === undefined ? before === after : before.equals(after);
}

function apply({ path, before, after, mode }: Change): void {
  try {
    if (after === undefined) rmSync(path);
    else if (before === undefined) writePrivate(path, after);
    else replaceFile(path, after, mode);
  } catch (cause) {
    throw new ClientError('CONFIG_INVALID', `cannot change ${path}: ${reason(cause)}`, { cause });
  }
}

function verb({ before, after }: Change): string {
  if (after === undefined) return 'removed';
  return before === undefined ? 'created' : 'changed';
}

/** The output of `--dry-run`: the lines to add and to remove. */
function preview(wanted: Change): string {
  const before = linesOf(wanted.before);
  const after = linesOf(wanted.after);
  const head = `would ${verb(wanted).replace(/d$/, '')} ${printable(wanted.path)}\n`;
  return [head, ...onlyIn(before, after, '-'), ...onlyIn(after, before, '+')].join('');
}

function linesOf(bytes: Buffer | undefined): readonly string[] {
  return bytes?.toString().split(/(?<=\n)/) ?? [];
}

function onlyIn(some: readonly string[], others: readonly string[], mark: string): string[] {
  return some
    .filter((line) => !others.includes(line))
    .map((line) => `${mark} ${printable(line.trimEnd())}\n`);
}

function removeEmpty(directory: string): void {
  try {
    rmdirSync(directory);
  } catch {
    // It does not exist, or holds something else.
  }
}
