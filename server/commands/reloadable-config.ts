import { readConfigText } from '../config/load.ts';
import { parseConfig } from '../config/parse.ts';
import type { Config } from '../config/config.ts';

/** The config file of a process, and the text of it that is in force. */
export class ReloadableConfig {
  readonly #file: string;
  readonly #env: NodeJS.ProcessEnv;
  #text: string;
  /** The settings that the process was started with. */
  readonly config: Config;

  private constructor(file: string, env: NodeJS.ProcessEnv, text: string) {
    this.#file = file;
    this.#env = env;
    this.#text = text;
    this.config = parseConfig(text, { file, env });
  }

  /** Rejects with `ConfigError`. */
  static async read(file: string, env: NodeJS.ProcessEnv): Promise<ReloadableConfig> {
    return new ReloadableConfig(file, env, await readConfigText(file));
  }

  get text(): string {
    return this.#text;
  }

  /**
   * Reads the file again. `apply` puts its settings in place, and the text is in force when that resolves; when it
   * rejects, or the file cannot be read, the old text stays in force and this rejects.
   */
  async reload(apply: (config: Config, text: string) => Promise<void>): Promise<void> {
    const text = await readConfigText(this.#file);
    await apply(parseConfig(text, { file: this.#file, env: this.#env }), text);
    this.#text = text;
  }
}
