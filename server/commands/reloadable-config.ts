import { ConfigError } from '../config/config-error.ts';
import { readConfigText, readSettledConfigText } from '../config/load.ts';
import { parseConfig, parseWholeConfig, writtenKeys } from '../config/parse.ts';
import { describeChanges, isCutOff, lostKeys } from '../config/reload.ts';
import type { Config } from '../config/config.ts';

/** The config file of a process, and the text of it that is in force. */
export class ReloadableConfig {
  readonly #file: string;
  readonly #env: NodeJS.ProcessEnv;
  #text: string;
  /** The settings that the process was started with. */
  readonly config: Config;
  /** Those of the text that is in force. */
  #current: Config;

  private constructor(file: string, env: NodeJS.ProcessEnv, text: string) {
    this.#file = file;
    this.#env = env;
    this.#text = text;
    this.config = parseWholeConfig(text, { file, env });
    this.#current = this.config;
  }

  /** Rejects with `ConfigError`. */
  static async read(file: string, env: NodeJS.ProcessEnv): Promise<ReloadableConfig> {
    return new ReloadableConfig(file, env, await readConfigText(file));
  }

  /** Settings that another process of the gateway has in force. Throws `ConfigError`. */
  parse(text: string): Config {
    return parseConfig(text, { file: this.#file, env: this.#env });
  }

  get text(): string {
    return this.#text;
  }

  /**
   * Reads the file again. `apply` puts its settings in place, and the text is in force when that resolves; when it
   * rejects, or the file cannot be read, or has lost what makes a gateway of it, the old text stays in force and this
   * rejects. Resolves to what has changed.
   */
  async reload(
    apply: (config: Config, text: string) => Promise<void>,
  ): Promise<ReturnType<typeof describeChanges>> {
    const [file, env] = [this.#file, this.#env];
    const text = await readSettledConfigText(file);
    const config = parseWholeConfig(text, { file, env });
    this.#checkWhole(text);
    await apply(config, text);
    const changes = describeChanges(this.#current, config);
    [this.#text, this.#current] = [text, config];
    return changes;
  }
  /** Throws `ConfigError`. */
  #checkWhole(text: string): void {
    const [file, env] = [this.#file, this.#env];
    const keysOf = (each: string): ReadonlySet<string> => writtenKeys(each, { file, env });
    const lost = lostKeys(this.#current, keysOf(text));
    if (lost.length > 0) throw new ConfigError(lost.map((each) => ({ file, ...each })));
    if (isCutOff(this.#text, text, keysOf))
      throw new ConfigError([
        {
          file,
          path: '',
          message:
            'is only the beginning of the file in force: is it whole? If it is, add a comment to its end, or restart',
        },
      ]);
  }
}
