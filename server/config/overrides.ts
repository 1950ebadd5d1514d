import type { ConfigProblem } from './config-error.ts';
import { readDocument } from './yaml-document.ts';
import type { SettingPath } from './yaml-document.ts';
import { isRecord, isText, keysOf, schemaAt } from './setting-types.ts';
import { settingsOutline } from './schema.ts';

/** A setting from the environment. */
export interface Override {
  /** The environment variable. */
  readonly name: string;
  readonly path: readonly string[];
  readonly value: unknown;
}

export type ConfigEnvironment = Readonly<Record<string, string | undefined>>;

const prefix = 'POSTERN__';

/** Reads the settings of `POSTERN__SECTION__KEY` variables, sections before their keys. */
export function readOverrides(env: ConfigEnvironment): {
  readonly overrides: readonly Override[];
  readonly problems: readonly ConfigProblem[];
} {
  const overrides: Override[] = [];
  const problems: ConfigProblem[] = [];
  for (const name of Object.keys(env).toSorted()) {
    const raw = env[name];
    if (raw === undefined || !name.toUpperCase().startsWith(prefix)) continue;
    const read = readOverride(name, raw);
    if ('message' in read) problems.push(read);
    else if (overrides.some(({ path }) => samePath(path, read.path))) {
      problems.push({ file: name, path: read.path.join('.'), message: 'another variable sets this key too' });
    } else overrides.push(read);
  }
  return { overrides: overrides.toSorted((a, b) => a.path.length - b.path.length), problems };
}

/** The settings with the overrides in place. A value that is not a section, but should be, stays as it is, to be reported. */
export function applyOverrides(settings: unknown, overrides: readonly Override[]): unknown {
  return overrides.reduce((value, { path, value: given }) => setAt(value ?? {}, path, given), settings);
}

function readOverride(name: string, raw: string): Override | ConfigProblem {
  const path = findPath(name.slice(prefix.length).split('__'));
  if (!path) return { file: name, path: '', message: 'there is no such setting' };
  try {
    return { name, path, value: readValue(raw, path) };
  } catch (error) {
    return { file: name, path: path.join('.'), message: (error as Error).message };
  }
}

function findPath(segments: readonly string[]): readonly string[] | undefined {
  let schema: unknown = settingsOutline;
  const path: string[] = [];
  for (const segment of segments) {
    const key = isRecord(schema) ? chosenKey(segment) : knownKey(segment, keysOf(schema));
    if (key === undefined) return undefined;
    path.push(key);
    schema = schemaAt(schema, [key]);
  }
  return path;
}

/** `PER_SUBJECT` and `PERSUBJECT` are `perSubject`. */
function knownKey(segment: string, keys: readonly string[]): string | undefined {
  const wanted = segment.replaceAll('_', '').toLowerCase();
  return keys.find((key) => key.toLowerCase() === wanted);
}

/** Shells allow no `-` in the name of a variable, and host names no `_`. */
function chosenKey(segment: string): string | undefined {
  const key = segment.replaceAll('_', '-').toLowerCase();
  return key === '' ? undefined : key;
}

/** Reads a value as YAML, as in the file; a setting that is text also accepts what YAML reads as something else, such as `[::]:8022`. */
function readValue(raw: string, path: SettingPath): unknown {
  const isPlain = isText(schemaAt(settingsOutline, path));
  const { value, problems } = readDocument(raw, '');
  const [problem] = problems;
  if (isPlain && (problem || typeof value !== 'string')) return raw;
  if (problem) throw new RangeError(problem.message);
  return value;
}

function setAt(settings: unknown, path: readonly string[], value: unknown): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return value;
  if (typeof settings !== 'object' || settings === null || Array.isArray(settings)) return settings;
  const before: unknown = Object.hasOwn(settings, key)
    ? (settings as Record<string, unknown>)[key]
    : undefined;
  return { ...settings, [key]: rest.length === 0 ? value : setAt(before ?? {}, rest, value) };
}

function samePath(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((step, at) => step === other[at]);
}
