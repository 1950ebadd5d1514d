import { basename, dirname, resolve } from 'node:path';
import { ConfigError } from './config-error.ts';
import type { ConfigProblem } from './config-error.ts';
import type { Config } from './config.ts';
import { crossCheck, defaultPublicUrl } from './cross-checks.ts';
import type { SoundSettings } from './cross-checks.ts';
import { readDocument } from './yaml-document.ts';
import type { ConfigDocument, SettingPath } from './yaml-document.ts';
import { applyOverrides, readOverrides } from './overrides.ts';
import type { ConfigEnvironment, Override } from './overrides.ts';
import { settingsSchema } from './schema.ts';
import { describeIssue, formatPath } from './issue-messages.ts';
import type { SettingProblem } from './issue-messages.ts';

export interface ParseOptions {
  /** Names the file in problems; relative paths in it start from its directory. */
  readonly file: string;
  readonly env: ConfigEnvironment;
}

/** Parses the settings, with the overrides of the environment. Throws `ConfigError` with every problem there is. */
export function parseConfig(text: string, { file, env }: ParseOptions): Config {
  const document = readDocument(text, file);
  const { overrides, problems: envProblems } = readOverrides(env);
  if (document.problems.length > 0) throw new ConfigError([...document.problems, ...envProblems]);

  const raw = applyOverrides(document.value, overrides) ?? {};
  const origin = { document, overrides, file };
  const schema = settingsSchema({
    resolvePath: (path) => resolve(dirname(resolve(file)), path),
    locate: (path) => locateSetting(path, origin),
  });
  const checked = schema.safeParse(raw);
  const found = checked.success ? [] : checked.error.issues.flatMap(describeIssue);
  const sound = checked.success ? checked.data : soundSettings(raw, schema);
  const urlBroken = found.some(({ path }) => path[0] === 'publicUrl' || path.length === 0);
  const crossed = crossCheck(withUrl(sound, urlBroken));
  const problems = [...found, ...crossed].map((problem) => locateProblem(problem, origin));
  if (!checked.success || problems.length > 0 || envProblems.length > 0) {
    throw new ConfigError([...problems, ...envProblems].toSorted((a, b) => (a.line ?? 0) - (b.line ?? 0)));
  }
  // Without a default, its absence is one of the problems.
  return { ...checked.data, publicUrl: checked.data.publicUrl ?? defaultPublicUrl(checked.data)! };
}

/**
 * Parses the settings of a gateway that is to run. Throws `ConfigError` as `parseConfig` does, and for a text without any
 * setting, which is what is left of a truncated file.
 */
export function parseWholeConfig(text: string, options: ParseOptions): Config {
  const config = parseConfig(text, options);
  if (writtenKeys(text, options).size === 0)
    throw new ConfigError([{ file: options.file, path: '', message: 'is empty; is the file whole?' }]);
  return config;
}

/** The keys at the top that the settings of a text, or the overrides of the environment, have written. */
export function writtenKeys(text: string, { file, env }: ParseOptions): ReadonlySet<string> {
  const { value } = readDocument(text, file);
  const raw = applyOverrides(value, readOverrides(env).overrides) ?? {};
  return new Set(typeof raw === 'object' ? Object.keys(raw) : []);
}

interface Origin {
  readonly document: ConfigDocument;
  readonly overrides: readonly Override[];
  readonly file: string;
}

/** The settings without problems of their own, so that problems between them are reported along with the rest. */
function soundSettings(raw: unknown, { shape }: ReturnType<typeof settingsSchema>): SoundSettings {
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) return {};
  const sound: [string, unknown][] = [];
  for (const [key, schema] of Object.entries(shape)) {
    const value = (raw as Record<string, unknown>)[key];
    const parsed = schema.safeParse(value);
    if (parsed.success) sound.push([key, parsed.data]);
    else if ((key === 'rules' || key === 'issuers') && Array.isArray(value)) {
      sound.push([key, value.map((each) => (schema.safeParse([each]).data as unknown[] | undefined)?.[0])]);
    }
  }
  return Object.fromEntries(sound);
}

/** A `publicUrl` of undefined means that there is none and no default; an absent one, that it has a problem of its own. */
function withUrl(settings: SoundSettings, broken: boolean): SoundSettings {
  return broken ? settings : { ...settings, publicUrl: settings.publicUrl ?? defaultPublicUrl(settings) };
}

function locateProblem(
  { path, message }: SettingProblem,
  { document, overrides, file }: Origin,
): ConfigProblem {
  const name = overriderOf(path, overrides);
  if (name !== undefined) return { file: name, path: formatPath(path), message };
  return { file, ...document.locate(path), path: formatPath(path), message };
}

function overriderOf(path: SettingPath, overrides: readonly Override[]): string | undefined {
  return overrides.findLast((each) => each.path.every((step, at) => step === path[at]))?.name;
}

/** The place of a setting for people: `postern.yaml:31`, or the environment variable that gives it. */
function locateSetting(path: SettingPath, { document, overrides, file }: Origin): string {
  return overriderOf(path, overrides) ?? `${basename(file)}:${document.locate(path)?.line}`;
}
