import { parseArgs as parse } from 'node:util';
import { nearestName } from './nearest-name.ts';

/**
 * `parseArgs` of Node.js, whose error about an unknown option names the one that was probably meant. Throws as it does:
 * errors with a code that begins with `ERR_PARSE_ARGS_`.
 */
export const parseArgs: typeof parse = (config) => {
  try {
    return parse(config);
  } catch (error) {
    if (!isUnknownOption(error)) throw error;
    throw Object.assign(new Error(describe(error, config?.options ?? {}), { cause: error }), {
      code: error.code,
    });
  }
};

interface UnknownOption extends Error {
  readonly code: 'ERR_PARSE_ARGS_UNKNOWN_OPTION';
}

function isUnknownOption(error: unknown): error is UnknownOption {
  return error instanceof Error && (error as Partial<UnknownOption>).code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION';
}

function describe({ message }: Error, options: object): string {
  const [, given = ''] = message.split("'", 2);
  const name = given.replace(/^-+/, '');
  // A single letter is near to everything.
  const near = name.length > 1 ? nearestName(name, Object.keys(options)) : undefined;
  // Node.js adds advice about positional arguments after the first sentence.
  if (near === undefined) return message.split('. ')[0]!;
  return `Unknown option '${given}'; did you mean '--${near}'?`;
}
