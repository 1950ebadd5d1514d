import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { nearestName } from '../../base/nearest-name.ts';
import { parseArgs } from '../../base/parse-args.ts';
import { formatTarget } from '../../protocol/target.ts';
import type { Config, ListenAddress } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { exampleValues, fillIn } from './fill-in.ts';
import type { DeployValues } from './fill-in.ts';
import { UsageError, exits, runCommand } from './command.ts';
import type { CommandIo } from './command.ts';

interface Front {
  /** The files to print, from the top of the package. */
  readonly files: readonly string[];
  /** How this program spells a unix socket to forward to, as an address and as a URL. */
  socket(path: string): { readonly upstream: string; readonly upstreamUrl: string };
}

const fronts: Readonly<Record<string, Front>> = {
  nginx: {
    files: ['nginx.conf.example'],
    socket: (path) => ({ upstream: `unix:${path}`, upstreamUrl: `http://unix:${path}` }),
  },
  haproxy: {
    files: ['deploy/haproxy.cfg'],
    socket: (path) => ({ upstream: `unix@${path}`, upstreamUrl: `unix@${path}` }),
  },
  caddy: {
    files: ['deploy/Caddyfile'],
    socket: (path) => ({ upstream: `unix/${path}`, upstreamUrl: `unix/${path}` }),
  },
  apache: {
    files: ['deploy/apache.conf'],
    socket: (path) => ({ upstream: `unix:${path}`, upstreamUrl: `unix:${path}|http://localhost` }),
  },
  systemd: {
    files: ['deploy/postern-gateway.service', 'deploy/postern-gateway.socket'],
    socket: (path) => ({ upstream: path, upstreamUrl: path }),
  },
};

interface PrintRequest {
  readonly name: string;
  readonly front: Front;
  readonly configFile: string;
}

const usage = `postern-gateway print-config ${Object.keys(fronts).join('|')} [--config FILE]`;

/** `postern-gateway print-config`: prints a deploy file filled in for a configuration. */
export function printConfigCommand(args: string[], io: CommandIo): Promise<number> {
  return runCommand(io, usage, () => printConfig(readArguments(args), io));
}

async function printConfig(request: PrintRequest, { env, stdout, stderr }: CommandIo): Promise<number> {
  const config = await loadConfig(request.configFile, env);
  if (config.tls && request.name !== 'systemd') {
    stderr.write(
      'postern-gateway: tls is set: this gateway serves TLS itself, without a web proxy in front of it\n',
    );
    return exits.usage;
  }
  const values = deployValues(config, request);
  const { files } = request.front;
  const texts = await Promise.all(files.map((file) => readFile(join(packageDirectory(), file), 'utf8')));
  // Of several files, each is headed by the path where it belongs.
  const titles = files.map((file) =>
    files.length > 1 ? `# ${join('/etc/systemd/system', basename(file))}\n` : '',
  );
  stdout.write(texts.map((text, index) => titles[index] + fillIn(text, values)).join('\n'));
  return exits.ok;
}

function readArguments(args: string[]): PrintRequest {
  const { values, positionals } = parseArgs({
    args,
    options: { config: { type: 'string', default: 'postern.yaml' } },
    allowPositionals: true,
  });
  const [name, ...more] = positionals;
  if (name === undefined || more.length > 0)
    throw new UsageError('name one program to print a configuration for');
  if (!Object.hasOwn(fronts, name)) {
    const near = nearestName(name, Object.keys(fronts));
    throw new UsageError(
      `there is no configuration for ${JSON.stringify(name)}${near === undefined ? '' : `; did you mean ${near}?`}`,
    );
  }
  return { name, front: fronts[name]!, configFile: absolute(values.config) };
}

function absolute(file: string): string {
  try {
    return resolve(file);
  } catch (cause) {
    throw new UsageError('--config is a relative path, and the current directory has been removed', {
      cause,
    });
  }
}

function deployValues(config: Config, request: PrintRequest): DeployValues {
  const { publicUrl } = config;
  // A public URL without TLS names no web proxy yet: only its path is of use.
  const { hostname: host, port: written } =
    publicUrl.protocol === 'https:' ? publicUrl : new URL(exampleValues.publicUrl);
  const port = written || exampleValues.port;
  return {
    publicUrl: `https://${host}${written && `:${written}`}${publicUrl.pathname}`,
    host,
    port,
    prefix: publicUrl.pathname,
    listen4: `*:${port}`,
    listen6: `[::]:${port}`,
    ...upstream(config.listen, request),
    certificateFile: exampleValues.certificateFile.replace(exampleValues.host, host),
    keyFile: exampleValues.keyFile.replace(exampleValues.host, host),
    command: `${process.execPath} ${mainFile()}`,
    configFile: request.configFile,
  };
}

/** A web proxy on this machine reaches a listener on all addresses at the loopback address. */
const loopbackOf: Readonly<Record<string, string>> = { '0.0.0.0': '127.0.0.1', '::': '::1' };

function upstream(
  listen: ListenAddress,
  { name, front }: PrintRequest,
): Pick<DeployValues, 'upstream' | 'upstreamUrl'> {
  if (listen.kind === 'unix') return front.socket(resolve(listen.path));
  // systemd listens on exactly this address; the others connect to it.
  const host = name === 'systemd' ? listen.host : (loopbackOf[listen.host] ?? listen.host);
  const address = formatTarget({ host, port: listen.port });
  return { upstream: address, upstreamUrl: `http://${address}` };
}

/** The folder of package.json: this file is two folders below it in the source tree, and three in `dist`. */
function packageDirectory(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'package.json')) && directory !== dirname(directory)) {
    directory = dirname(directory);
  }
  return directory;
}

function mainFile(): string {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  return fileURLToPath(new URL(`../main.${extension}`, import.meta.url));
}
