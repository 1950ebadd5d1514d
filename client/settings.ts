import { join, resolve } from 'node:path';
import { Secret } from '../protocol/secret.ts';
import type { PacSetting, ProxySettings } from './egress/egress.ts';
import type { ProxySignIn } from './egress/proxy-auth/credentials.ts';
import { entryNames, isEntryName } from '../protocol/entries.ts';
import type { EntryName } from '../protocol/entries.ts';
import { ClientError } from './errors/failure.ts';
import { othersCanWrite, readSmall, reason } from './os/files.ts';
import { places } from './os/xdg-paths.ts';
import type { Environment, UserPaths } from './os/xdg-paths.ts';
import type { BrowserSettings } from './login/open-browser.ts';
import type { TokenSources } from './credentials/static-token.ts';
import { quote } from '../protocol/target.ts';

/** What was said on the command line; texts as they were written. */
export interface Flags {
  readonly gateway?: string;
  readonly via?: string;
  readonly caFile?: string;
  readonly tokenFile?: string;
}

/** What `setup` writes and the other commands read. */
export interface ConfigFile {
  readonly gateway: string;
  readonly caFile?: string;
  readonly hosts?: readonly string[];
  /** The PAC file that says which proxy to take, by URL or path. */
  readonly pac?: string;
  /** `false`: the proxy settings of the system are not asked. */
  readonly systemProxy?: boolean;
  /** `false`: the authorities of the system are not trusted. */
  readonly systemTrust?: boolean;
  /** Set when there was no `~/.ssh/config` before `setup`, so that `--remove` can leave none. */
  readonly createdSshConfig?: true;
}

/** Everything a command needs to know, decided. Nothing else reads the environment. */
export interface ClientSettings {
  readonly gateway: URL;
  readonly via?: EntryName;
  readonly caFile?: string;
  readonly trustsSystem: boolean;
  /** Where the system has its authorities, if it is said. */
  readonly systemCaFile?: string;
  readonly token: TokenSources;
  readonly proxy: ProxySettings;
  readonly places: UserPaths;
  readonly asking: PromptSettings;
}

/** Whether and how a person may be asked to sign in. */
export interface PromptSettings {
  /** False in CI and with `POSTERN_NO_INPUT`: nobody is there. */
  readonly isAllowed: boolean;
  readonly browser: BrowserSettings;
}

const maxConfigBytes = 64 * 1024;

/** Flags before environment before file. Throws `USAGE`, `CONFIG_INVALID`, `GATEWAY_UNSET`. */
export function readSettings(flags: Flags, env: Environment): ClientSettings {
  const here = places(env);
  if (flags.via !== undefined && !isEntryName(flags.via)) {
    throw new ClientError('USAGE', `--via is one of ${entryNames.join(', ')}, not ${quote(flags.via)}`);
  }
  const config = readConfigFile(here);
  const gateway = flags.gateway ?? nonEmpty(env['POSTERN_GATEWAY']) ?? config?.gateway;
  if (gateway === undefined) throw new ClientError('GATEWAY_UNSET', 'no gateway is set');
  const caFile = flags.caFile ?? nonEmpty(env['POSTERN_CA_FILE']) ?? config?.caFile;
  const systemCaFile = nonEmpty(env['SSL_CERT_FILE']);
  return {
    gateway: parseGateway(gateway),
    ...(flags.via === undefined ? {} : { via: flags.via }),
    ...(caFile === undefined ? {} : { caFile: resolve(caFile) }),
    trustsSystem: isOn(env['POSTERN_SYSTEM_TRUST'], config?.systemTrust),
    ...(systemCaFile === undefined ? {} : { systemCaFile }),
    token: tokenSources(flags, env, here),
    proxy: { ...proxySettings(env, config), signIn: proxySignIn(env, here) },
    places: here,
    asking: asking(env),
  };
}

function asking(env: Environment): PromptSettings {
  const [command, systemRoot] = [nonEmpty(env['BROWSER']), nonEmpty(env['SystemRoot'])];
  return {
    isAllowed: mayAsk(env),
    browser: {
      hasDisplay: nonEmpty(env['DISPLAY']) !== undefined || nonEmpty(env['WAYLAND_DISPLAY']) !== undefined,
      ...(command === undefined ? {} : { command }),
      ...(systemRoot === undefined ? {} : { systemRoot }),
    },
  };
}

/** Nobody is there in CI, nor where it is said. */
function mayAsk(env: Environment): boolean {
  return ['CI', 'POSTERN_NO_INPUT'].every((name) => ['', '0', 'false'].includes(env[name] ?? ''));
}

/** Where `readSettings` would look for a token. */
export function tokenSources(
  flags: Pick<Flags, 'tokenFile'>,
  env: Environment,
  here: UserPaths,
): TokenSources {
  const file = flags.tokenFile ?? nonEmpty(env['POSTERN_TOKEN_FILE']);
  const text = nonEmpty(env['POSTERN_TOKEN']);
  return {
    ...(file === undefined ? {} : { file: resolve(file) }),
    ...(text === undefined ? {} : { text: new Secret(text) }),
    state: here.state,
  };
}

/**
 * The gateway's URL with a slash at its end. Throws `CONFIG_INVALID`.
 * Without TLS the token would travel in the clear, so http is for this machine only.
 */
export function parseGateway(text: string): URL {
  const refuse = (why: string): ClientError =>
    new ClientError('CONFIG_INVALID', `${quote(text)} is not a gateway: ${why}`);
  if (!URL.canParse(text)) throw refuse('write it like https://gw.example/ssh/');
  const url = new URL(text);
  if (url.username !== '' || url.password !== '') {
    throw new ClientError('CONFIG_INVALID', 'a gateway URL holds no user name and no password');
  }
  if (url.search !== '' || url.hash !== '') throw refuse('it has a query or a fragment');
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && isThisMachine(url.hostname))) {
    throw refuse('it has to start with https://, or the token would travel in the clear');
  }
  if (!url.pathname.endsWith('/')) url.pathname += '/';
  return url;
}

function isThisMachine(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(hostname);
}

/** The path of `config.json`. */
export function configPath(here: UserPaths): string {
  return join(here.config, 'config.json');
}

/** What `setup` wrote, or undefined. Throws `CONFIG_INVALID` for a file that is damaged or that others can change. */
export function readConfigFile(here: UserPaths): ConfigFile | undefined {
  const path = configPath(here);
  let file;
  try {
    file = readSmall(path, maxConfigBytes);
  } catch (cause) {
    if (reason(cause) === 'ENOENT' || reason(cause) === 'ENOTDIR') return undefined;
    throw invalidConfig(path, reason(cause), cause);
  }
  if (othersCanWrite(file.stats)) {
    throw new ClientError('CONFIG_INVALID', `${path} is not used: others can change it`, {
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
    throw invalidConfig(path, 'it is no object');
  const { gateway, caFile, hosts, pac, systemProxy, systemTrust, createdSshConfig, ...unknown } =
    value as Record<string, unknown>;
  const problems = Object.keys(unknown).map((key) => `${quote(key)} is unknown`);
  if (typeof gateway !== 'string') problems.push('"gateway" has to be a text');
  if (caFile !== undefined && typeof caFile !== 'string') problems.push('"caFile" has to be a text');
  if (pac !== undefined && typeof pac !== 'string') problems.push('"pac" has to be a text');
  for (const [name, given_] of Object.entries({ systemProxy, systemTrust }))
    if (given_ !== undefined && typeof given_ !== 'boolean')
      problems.push(`"${name}" has to be true or false`);
  if (hosts !== undefined && !isTexts(hosts)) problems.push('"hosts" has to be a list of texts');
  if (createdSshConfig !== undefined && createdSshConfig !== true)
    problems.push('"createdSshConfig" has to be true');
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

/** The lower-case spelling wins, as in curl; an empty one means that there is no proxy. */
function proxySettings(env: Environment, config: ConfigFile | undefined): ProxySettings {
  const https = env['https_proxy'] ?? env['HTTPS_PROXY'];
  const all = env['all_proxy'] ?? env['ALL_PROXY'];
  const http = env['http_proxy'] ?? env['HTTP_PROXY'];
  const except = env['no_proxy'] ?? env['NO_PROXY'];
  const pac = pacSetting(env, config);
  const isSystemAsked = isOn(env['POSTERN_SYSTEM_PROXY'], config?.systemProxy);
  const desktop = nonEmpty(env['XDG_CURRENT_DESKTOP']);
  return {
    ...(https === undefined ? {} : { https }),
    ...(all === undefined ? {} : { all }),
    ...(http === undefined ? {} : { http }),
    ...(except === undefined ? {} : { except }),
    ...(pac === undefined ? {} : { pac }),
    ...(isSystemAsked && {
      system: { platform: process.platform, ...(desktop === undefined ? {} : { desktop }) },
    }),
  };
}

function proxySignIn(env: Environment, here: UserPaths): ProxySignIn {
  const [user, password] = [nonEmpty(env['POSTERN_PROXY_USER']), nonEmpty(env['POSTERN_PROXY_PASSWORD'])];
  return {
    mayAsk: mayAsk(env),
    state: here.state,
    ...(user === undefined ? {} : { user }),
    ...(password === undefined ? {} : { password: new Secret(password) }),
  };
}

/** Something that is on unless the environment, or else the file, says no. */
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
