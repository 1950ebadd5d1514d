/** A problem of the settings, and its place. */
export interface ConfigProblem {
  /** The config file, or the environment variable that overrides it. */
  readonly file: string;
  readonly line?: number;
  readonly column?: number;
  /** The setting, as in `rules[1].targets[0]`; empty for the file as a whole. */
  readonly path: string;
  readonly message: string;
}

/** Settings that cannot be used, with every problem that was found. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly problems: readonly ConfigProblem[];

  constructor(problems: readonly ConfigProblem[], options?: ErrorOptions) {
    super(problems.map(formatProblem).join('\n'), options);
    this.problems = problems;
  }

  /** One line for each problem: `file:line: path: message`. */
  format(): string {
    return this.problems.map(formatProblem).join('\n');
  }
}

function formatProblem({ file, line, path, message }: ConfigProblem): string {
  const where = line === undefined ? file : `${file}:${line}`;
  return [where, path, message].filter((part) => part !== '').join(': ');
}
