import { readFile } from 'node:fs/promises';
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

/** Reads the text of the config file. Throws `ConfigError`. */
export async function readConfigText(file: string): Promise<string> {
  try {
    const bytes = await readFile(file);
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const message =
      code === 'ENOENT'
        ? 'there is no such file; name one with --config, or have one written by postern-gateway serve --init'
        : `cannot be read (${code ?? 'not UTF-8'})`;
    throw new ConfigError([{ file, path: '', message }], { cause });
  }
}
