import { hash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { NotRegularFileError, readRegularFile } from '../../base/regular-file.ts';
import { ConfigError } from './config-error.ts';
import type { Config } from './config.ts';
import type { ConfigEnvironment } from './overrides.ts';
import { parseConfig } from './parse.ts';

/** The file of the settings, unless `--config` names another. */
export const defaultConfigFile = './postern.yaml';

/** Reads and parses the config file. Throws `ConfigError`, also when the file cannot be read. */
export async function loadConfig(file: string, env: ConfigEnvironment): Promise<Config> {
  return parseConfig(await readConfigText(file), { file, env });
}

/** More than a config file can reasonably be, in bytes. */
const maxBytes = 4 * 1024 * 1024;
/** A file that was changed within this time can still be written to. */
const freshMs = 2000;
const quietMs = 100;
const maxReads = 20;

/**
 * Reads the text of the config file. Throws `ConfigError`, for a file too that is larger than 4 MiB, is not a regular
 * file, or does not come within 10 seconds.
 */
export async function readConfigText(file: string): Promise<string> {
  return (await readConfigFile(file)).text;
}

/**
 * The same for a file that an editor, or a tool that copies, can be writing at this moment: reads again until nothing has
 * changed it for a moment.
 */
export async function readSettledConfigText(file: string): Promise<string> {
  let read = await readConfigFile(file);
  for (let reads = 1; reads < maxReads && Math.abs(Date.now() - read.mtimeMs) < freshMs; reads++) {
    await delay(quietMs);
    const again = await readConfigFile(file);
    if (again.version === read.version) return again.text;
    read = again;
  }
  return read.text;
}

interface ConfigFileText {
  readonly text: string;
  readonly mtimeMs: number;
  /** Differs when the file was written to, or replaced. */
  readonly version: string;
}

async function readConfigFile(file: string): Promise<ConfigFileText> {
  try {
    const { bytes, stats } = await readRegularFile(file, maxBytes);
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    const { ino, size, mtimeMs } = stats;
    return { text, mtimeMs, version: `${ino} ${size} ${mtimeMs} ${hash('sha256', text)}` };
  } catch (cause) {
    throw new ConfigError([{ file, path: '', message: describeReadError(cause as NodeJS.ErrnoException) }], {
      cause,
    });
  }
}

function describeReadError(error: NodeJS.ErrnoException): string {
  if (error.code === 'ENOENT')
    return 'there is no such file; name one with --config, or have one written by postern-gateway serve --init';
  if (error.code === 'ERR_ENCODING_INVALID_ENCODED_DATA') return 'cannot be read (not UTF-8)';
  if (error instanceof NotRegularFileError && error.message === 'is a directory')
    return 'is a directory; name the file in it with --config';
  if (error instanceof NotRegularFileError || error instanceof RangeError) return error.message;
  return `cannot be read (${error.code ?? error.message})`;
}
