import type { Config } from './config.ts';
import { internalName, sectionShape, settingMeta } from './setting-types.ts';
import { settingsOutline } from './schema.ts';
import type { SettingMeta } from './setting-types.ts';

/** The outcome of a reload, as `reload` in the schema says it for each key. */
export interface Reload {
  /** The next configuration, in which the keys that only a restart changes are as they were. */
  readonly config: Config;
  /** The keys of `postern.yaml` that have changed and, wholly or in part, wait for a restart. */
  readonly needsRestart: readonly string[];
}

/** Puts the next configuration in the place of the current one, as far as that can be done without a restart. */
export function reloadConfig(current: Config, next: Config): Reload {
  const needsRestart: string[] = [];
  const config = mergeSection({ shape: settingsOutline.shape, path: '', inherited: false }, current, next);
  return { config: config as unknown as Config, needsRestart };

  function mergeSection({ shape, path, inherited }: Section, old: object, fresh: object): Values {
    const merged: [string, unknown][] = [];
    for (const [key, schema] of Object.entries(shape)) {
      const name = internalName(key);
      const [before, after] = [(old as Values)[name], (fresh as Values)[name]];
      const { reload = inherited } = settingMeta(schema);
      const inner = sectionShape(schema);
      if (inner && isObject(before) && isObject(after)) {
        const section = { shape: inner, path: `${path}${key}.`, inherited: reload };
        merged.push([name, mergeSection(section, before, after)]);
        continue;
      }
      if (reload !== true && !isSame(before, after)) needsRestart.push(`${path}${key}`);
      const value = reload === false ? before : after;
      if (value !== undefined) merged.push([name, value]);
    }
    return Object.fromEntries(merged);
  }
}

/** A key that a reload would lose, and what to write where that is meant. */
export interface LostKey {
  readonly path: string;
  readonly message: string;
}

/**
 * The keys that a reload must not lose: those that the file in force has filled, and the next file does not even have. A
 * truncated file looks like that; what is empty on purpose is written down: `rules: []`.
 */
export function lostKeys(current: Config, written: ReadonlySet<string>): readonly LostKey[] {
  const { network, signIn } = current;
  const inForce: Readonly<Record<string, { readonly count: number; readonly none: string }>> = {
    rules: { count: current.rules.length, none: '[]' },
    targets: { count: current.targets.length, none: '{}' },
    issuers: { count: current.issuers.length, none: '[]' },
    network: { count: network.allow.length + network.deny.length, none: '{}' },
    signIn: { count: signIn.providers.length, none: '{}' },
  };
  return Object.entries(inForce)
    .filter(([key, { count }]) => count > 0 && !written.has(key))
    .map(([key, { count, none }]) => ({
      path: key,
      message: `is no longer there, but is in force with ${count}: is the file whole? To have none, write ${key}: ${none}`,
    }));
}

/**
 * Whether the next text of the file is only the beginning of the one in force, as a copy leaves it that was cut off: the
 * cut is in the middle of a line, or has taken keys at the top along. Lines that an edit took off the end are neither.
 */
export function isCutOff(
  current: string,
  next: string,
  keysOf: (text: string) => ReadonlySet<string>,
): boolean {
  if (next.length >= current.length || !current.startsWith(next)) return false;
  const isLineEnd = next.endsWith('\n') || /^\r?\n/.test(current.slice(next.length));
  if (!isLineEnd) return true;
  const kept = keysOf(next);
  return [...keysOf(current)].some((key) => !kept.has(key));
}

/** How many items of a list were added, removed, and changed under the same name. */
export interface ListChange {
  readonly added: number;
  readonly removed: number;
  readonly changed: number;
}

/** What a reload changes in rules, targets and issuers, for the log. */
export function describeChanges(
  current: Config,
  next: Config,
): Readonly<Record<'rules' | 'targets' | 'issuers', ListChange>> {
  return {
    // The name of a rule has its line in the file, which moves.
    rules: compareLists(current.rules, next.rules, ruleText, ruleText),
    targets: compareLists(current.targets, next.targets, ({ name }) => name),
    issuers: compareLists(current.issuers, next.issuers, ({ issuer }) => issuer),
  };
}

/** A rule as it is compared, without its name. */
function ruleText(rule: Config['rules'][number]): string {
  const { groups, subjects, issuers, targets } = rule;
  return JSON.stringify({ groups, subjects, issuers, targets });
}

function compareLists<Item>(
  before: readonly Item[],
  after: readonly Item[],
  nameOf: (item: Item) => string,
  valueOf: (item: Item) => unknown = (item): unknown => item,
): ListChange {
  const rest = Map.groupBy(before, nameOf);
  let [added, changed] = [0, 0];
  for (const item of after) {
    const same = rest.get(nameOf(item))?.shift();
    if (same === undefined) added++;
    else if (!isSame(valueOf(same), valueOf(item))) changed++;
  }
  const removed = [...rest.values()].reduce((sum, items) => sum + items.length, 0);
  return { added, removed, changed };
}

interface Section {
  readonly shape: Readonly<Record<string, unknown>>;
  readonly path: string;
  readonly inherited: NonNullable<SettingMeta['reload']>;
}

type Values = Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

/** Compares values of one parser, whose objects have their keys in one order; URLs become text. */
function isSame(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}
