import { join } from 'node:path';
import { Secret } from '../protocol/secret.ts';
import type { PacSetting, ProxySettings } from './egress/egress.ts';
import type { ProxySignIn } from './egress/proxy-auth/credentials.ts';
import { entryNames, isEntryName } from '../protocol/entries.ts';
import type { EntryName } from '../protocol/entries.ts';
import { absolutePath } from './errors/absolute-path.ts';
import { ClientError } from './errors/failure.ts';
import { parseGateway } from './http/gateway-url.ts';
import { othersCanWrite, readSmall, reason } from './os/files.ts';
import { userPaths } from './os/xdg-paths.ts';
import type { Environment, UserPaths } from './os/xdg-paths.ts';
import type { BrowserSettings } from './login/open-browser.ts';
import type { TokenSources } from './credentials/static-token.ts';
import { quote } from '../protocol/target.ts';

/** The options of the command line, unparsed. */
export interface Flags {
  readonly gateway?: string;
  readonly via?: string;
  readonly caFile?: string;
  readonly tokenFile?: string;
}

/** The content of `config.json`, which `setup` writes and the other commands read. */
export interface ConfigFile {
  readonly gateway: string;
  readonly caFile?: string;
  readonly hosts?: readonly string[];
  /** The URL or path of the PAC file that selects the proxy. */
  readonly pac?: string;
  /** `false`: the proxy settings of the system are ignored. */
  readonly systemProxy?: boolean;
  /** `false`: the certificate authorities of the system are not trusted. */
  readonly systemTrust?: boolean;
  /** Set when there was no `~/.ssh/config` before `setup`, so that `--remove` can leave none. */
  readonly createdSshConfig?: true;
}

/** All settings of a command, resolved. Nothing else reads the environment. */
export interface ClientSettings {
  readonly gateway: URL;
  readonly via?: EntryName;
  readonly caFile?: string;
  readonly trustsSystem: boolean;
  /** The file of the system's certificate authorities, if it is set: `SSL_CERT_FILE`. */
  readonly systemCaFile?: string;
  readonly token: TokenSources;
  readonly proxy: ProxySettings;
  readonly paths: UserPaths;
  readonly asking: PromptSettings;
}

/** Whether and how a person can be asked to sign in. */
export interface PromptSettings {
  /** False in CI and with `POSTERN_NO_INPUT`: there is no person to ask. */
  readonly isAllowed: boolean;
  readonly browser: BrowserSettings;
}

const maxConfigBytes = 64 * 1024;

/** Flags before environment before file. Throws `USAGE`, `CONFIG_INVALID`, `GATEWAY_UNSET`. */
export function readSettings(flags: Flags, env: Environment): ClientSettings {
  const paths = userPaths(env);
  if (flags.via !== undefined && !isEntryName(flags.via)) {
    throw new ClientError('USAGE', `--via must be one of ${entryNames.join(', ')}, not ${quote(flags.via)}`);
  }
  const config = readConfigFile(paths);
  const gateway = flags.gateway ?? nonEmpty(env['POSTERN_GATEWAY']) ?? config?.gateway;
  if (gateway === undefined) throw new ClientError('GATEWAY_UNSET', 'no gateway is set');
  const caFile = flags.caFile ?? nonEmpty(env['POSTERN_CA_FILE']) ?? config?.caFile;
  const systemCaFile = nonEmpty(env['SSL_CERT_FILE']);
  return {
    gateway: parseGateway(gateway),
    ...(flags.via === undefined ? {} : { via: flags.via }),
    ...(caFile === undefined ? {} : { caFile: absolutePath(caFile, 'the file of CA certificates') }),
    trustsSystem: isOn(env['POSTERN_SYSTEM_TRUST'], config?.systemTrust),
    ...(systemCaFile === undefined ? {} : { systemCaFile }),
    token: tokenSources(flags, env, paths),
    proxy: { ...proxySettings(env, config), signIn: proxySignIn(env, paths) },
    paths,
    asking: promptSettings(env),
  };
}

function promptSettings(env: Environment): PromptSettings {
  const [command, systemRoot] = [nonEmpty(env['BROWSER']), nonEmpty(env['SystemRoot'])];
  return {
    isAllowed: isPromptAllowed(env),
    browser: {
      hasDisplay: nonEmpty(env['DISPLAY']) !== undefined || nonEmpty(env['WAYLAND_DISPLAY']) !== undefined,
      ...(command === undefined ? {} : { command }),
      ...(systemRoot === undefined ? {} : { systemRoot }),
    },
  };
}

/** Whether there is a person to ask; not in CI, nor with `POSTERN_NO_INPUT`. */
function isPromptAllowed(env: Environment): boolean {
  return ['CI', 'POSTERN_NO_INPUT'].every((name) => ['', '0', 'false'].includes(env[name] ?? ''));
}

/** The sources in which `readSettings` looks for a token. */
export function tokenSources(
  flags: Pick<Flags, 'tokenFile'>,
  env: Environment,
  paths: UserPaths,
): TokenSources {
  const file = flags.tokenFile ?? nonEmpty(env['POSTERN_TOKEN_FILE']);
  const text = nonEmpty(env['POSTERN_TOKEN']);
  return {
    ...(file === undefined
      ? {}
      : { file: absolutePath(file, flags.tokenFile === undefined ? 'POSTERN_TOKEN_FILE' : '--token-file') }),
    ...(text === undefined ? {} : { text: new Secret(text) }),
    state: paths.state,
  };
}

/** The path of `config.json`. */
export function configPath(paths: UserPaths): string {
  return join(paths.config, 'config.json');
}

/** Reads `config.json`, or undefined. Throws `CONFIG_INVALID` for a file that is damaged or that others can change. */
export function readConfigFile(paths: UserPaths): ConfigFile | undefined {
  const path = configPath(paths);
  let file;
  try {
    file = readSmall(path, maxConfigBytes);
  } catch (cause) {
    if (reason(cause) === 'ENOENT' || reason(cause) === 'ENOTDIR') return undefined;
    throw invalidConfig(path, reason(cause), cause);
  }
  if (othersCanWrite(file.stats)) {
    throw new ClientError('CONFIG_INVALID', `${path} is ignored: other users can change it`, {
      hint: `chmod 600 '${path}'`,
    });
  }
  return parseConfigFile(path, file.bytes.toString());
}

function parseConfigFile(path: string, text: string): ConfigFile {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw invalidConfig(path, 'it is not JSON', cause);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw invalidConfig(path, 'it is not an object');
  const { gateway, caFile, hosts, pac, systemProxy, systemTrust, createdSshConfig, ...unknown } =
    value as Record<string, unknown>;
  const problems = Object.keys(unknown).map((key) => `${quote(key)} is unknown`);
  if (typeof gateway !== 'string') problems.push('"gateway" must be a string');
  if (caFile !== undefined && typeof caFile !== 'string') problems.push('"caFile" must be a string');
  if (pac !== undefined && typeof pac !== 'string') problems.push('"pac" must be a string');
  for (const [name, value_] of Object.entries({ systemProxy, systemTrust }))
    if (value_ !== undefined && typeof value_ !== 'boolean') problems.push(`"${name}" must be true or false`);
  if (hosts !== undefined && !isTexts(hosts)) problems.push('"hosts" must be a list of strings');
  if (createdSshConfig !== undefined && createdSshConfig !== true)
    problems.push('"createdSshConfig" must be true');
  if (problems.length > 0) throw invalidConfig(path, problems.join('; '));
  return value as ConfigFile;
}

function isTexts(value: unknown): boolean {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

function invalidConfig(path: string, what: string, cause?: unknown): ClientError {
  return new ClientError('CONFIG_INVALID', `cannot use ${path}: ${what}`, {
    cause,
    hint: 'postern setup --help',
  });
}

/** Reads the proxy variables; the lower-case spelling wins, as in curl, and an empty one means no proxy. */
function proxySettings(env: Environment, config: ConfigFile | undefined): ProxySettings {
  const https = env['https_proxy'] ?? env['HTTPS_PROXY'];
  const all = env['all_proxy'] ?? env['ALL_PROXY'];
  const http = env['http_proxy'] ?? env['HTTP_PROXY'];
  const except = env['no_proxy'] ?? env['NO_PROXY'];
  const pac = pacSetting(env, config);
  const usesSystem = isOn(env['POSTERN_SYSTEM_PROXY'], config?.systemProxy);
  const desktop = nonEmpty(env['XDG_CURRENT_DESKTOP']);
  return {
    ...(https === undefined ? {} : { https }),
    ...(all === undefined ? {} : { all }),
    ...(http === undefined ? {} : { http }),
    ...(except === undefined ? {} : { except }),
    ...(pac === undefined ? {} : { pac }),
    ...(usesSystem && {
      system: { platform: process.platform, ...(desktop === undefined ? {} : { desktop }) },
    }),
  };
}

function proxySignIn(env: Environment, paths: UserPaths): ProxySignIn {
  const [user, password] = [nonEmpty(env['POSTERN_PROXY_USER']), nonEmpty(env['POSTERN_PROXY_PASSWORD'])];
  return {
    isPromptAllowed: isPromptAllowed(env),
    state: paths.state,
    ...(user === undefined ? {} : { user }),
    ...(password === undefined ? {} : { password: new Secret(password) }),
  };
}

/** A setting that is on unless the environment, or else the file, turns it off. */
function isOn(variable: string | undefined, inFile = true): boolean {
  return nonEmpty(variable) === undefined ? inFile : !['0', 'false'].includes(variable!);
}

function pacSetting(env: Environment, config: ConfigFile | undefined): PacSetting | undefined {
  const location = nonEmpty(env['POSTERN_PAC']);
  if (location !== undefined) return { location, from: 'POSTERN_PAC' };
  return config?.pac === undefined ? undefined : { location: config.pac, from: 'config.json' };
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === '' ? undefined : text;
}
