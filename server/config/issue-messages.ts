import type { z } from 'zod';
import { nearestName } from '../../base/nearest-name.ts';
import type { SettingPath } from './yaml-document.ts';
import { keysOf, schemaAt } from './setting-types.ts';
import { settingsOutline } from './schema.ts';

/** A problem with a setting, without file and line. */
export interface SettingProblem {
  readonly path: SettingPath;
  readonly message: string;
}

/** Translates an issue of the schema into problems for the operator; one for each unknown key. */
export function describeIssue(issue: z.core.$ZodIssue): readonly SettingProblem[] {
  const path = issue.path.map((step) => (typeof step === 'number' ? step : String(step)));
  if (issue.code !== 'unrecognized_keys') return [{ path, message: wordIssue(issue) }];
  const known = keysOf(schemaAt(settingsOutline, path));
  return issue.keys.map((key) => ({ path: [...path, key], message: wordUnknown(key, known) }));
}

/** `rules[1].targets[0]`. */
export function formatPath(path: SettingPath): string {
  return path
    .map((step, at) => (typeof step === 'number' ? `[${step}]` : `${at > 0 ? '.' : ''}${step}`))
    .join('');
}

const kinds: Readonly<Record<string, string>> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list, such as [a, b]',
  object: 'a section with keys',
  record: 'a section with keys',
};

function wordIssue(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return issue.message.endsWith('received undefined')
        ? 'is missing'
        : `must be ${kinds[issue.expected] ?? issue.expected}`;
    case 'invalid_value':
      return `must be one of ${issue.values.map(String).join(', ')}`;
    case 'too_small':
      if (issue.origin === 'string' || issue.origin === 'array') return 'must not be empty';
      return `must be ${issue.inclusive ? 'at least' : 'more than'} ${issue.minimum}`;
    case 'too_big':
      return issue.origin === 'string' ? 'is too long' : `must be at most ${issue.maximum}`;
    case 'invalid_union':
      return 'must be text, a number, true or false, or a list of such';
    default:
      return issue.message;
  }
}

function wordUnknown(key: string, known: readonly string[]): string {
  const near = nearestName(key, known);
  return near === undefined
    ? `unknown key; known are ${known.join(', ')}`
    : `unknown key; did you mean ${near}?`;
}
