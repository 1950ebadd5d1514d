import { basename, dirname, resolve } from 'node:path';
import { ConfigError } from './config-error.ts';
import type { ConfigProblem } from './config-error.ts';
import type { Config, IssuerConfig, ProviderConfig, ResumeConfig, RuleConfig } from './config.ts';
import { crossCheck, defaultPublicUrl } from './cross-checks.ts';
import type { SoundSettings } from './cross-checks.ts';
import { readDocument } from './yaml-document.ts';
import type { ConfigDocument, SettingPath } from './yaml-document.ts';
import { applyOverrides, readOverrides } from './overrides.ts';
import type { Environment, Override } from './overrides.ts';
import { settingsSchema } from './schema.ts';
import type { SettingsInput } from './schema.ts';
import { describeIssue, formatPath } from './issue-messages.ts';
import type { SettingProblem } from './issue-messages.ts';

export interface ParseOptions {
  /** Names the file in problems; relative paths in it start from its directory. */
  readonly file: string;
  readonly env: Environment;
}

/** Reads the settings, with the overrides of the environment. Throws `ConfigError` with every problem there is. */
export function parseConfig(text: string, { file, env }: ParseOptions): Config {
  const document = readDocument(text, file);
  const { overrides, problems: envProblems } = readOverrides(env);
  if (document.problems.length > 0) throw new ConfigError([...document.problems, ...envProblems]);

  const raw = applyOverrides(document.value, overrides) ?? {};
  const checked = settingsSchema.safeParse(raw);
  const found = checked.success ? [] : checked.error.issues.flatMap(describeIssue);
  const sound = checked.success ? checked.data : soundSettings(raw);
  const urlBroken = found.some(({ path }) => path[0] === 'publicUrl' || path.length === 0);
  const crossed = crossCheck(withUrl(sound, urlBroken));
  const origin = { document, overrides, file };
  const problems = [...found, ...crossed].map((problem) => placeProblem(problem, origin));
  if (!checked.success || problems.length > 0 || envProblems.length > 0) {
    throw new ConfigError([...problems, ...envProblems].toSorted((a, b) => (a.line ?? 0) - (b.line ?? 0)));
  }
  return build(checked.data, origin);
}

interface Origin {
  readonly document: ConfigDocument;
  readonly overrides: readonly Override[];
  readonly file: string;
}

/** The settings without a problem, so that what is wrong between them is reported along with the rest. */
function soundSettings(raw: unknown): SoundSettings {
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) return {};
  const sound: [string, unknown][] = [];
  for (const [key, schema] of Object.entries(settingsSchema.shape)) {
    const value = (raw as Record<string, unknown>)[key];
    const parsed = schema.safeParse(value);
    if (parsed.success) sound.push([key, parsed.data]);
    else if ((key === 'rules' || key === 'issuers') && Array.isArray(value)) {
      sound.push([key, value.map((each) => (schema.safeParse([each]).data as unknown[] | undefined)?.[0])]);
    }
  }
  return Object.fromEntries(sound);
}

/** A `publicUrl` of undefined says that there is none and none can be made up; one that is absent, that it is broken. */
function withUrl(settings: SoundSettings, broken: boolean): SoundSettings {
  return broken ? settings : { ...settings, publicUrl: settings.publicUrl ?? defaultPublicUrl(settings) };
}

function placeProblem(
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

function build(settings: SettingsInput, origin: Origin): Config {
  const { publicUrl = defaultPublicUrl(settings)!, limits, tls, targets, audit } = settings;
  const at = (path: string) => resolve(dirname(resolve(origin.file)), path);
  return {
    listen: settings.listen,
    ...(tls && { tls: { certFile: at(tls.certFile), keyFile: at(tls.keyFile) } }),
    admin: settings.admin,
    control: { kind: 'unix', path: at(settings.control) },
    workers: settings.workers,
    publicUrl,
    trustedProxies: settings.trustedProxies,
    entries: [...new Set(settings.entries)],
    origins: settings.origins,
    keyFile: at(settings.keyFile),
    store: { file: at(settings.store.file) },
    signIn: {
      accounts: settings.signIn.accounts,
      sessionMs: settings.signIn.sessionHours * 3_600_000,
      accessTokenMs: settings.signIn.accessTokenMinutes * 60_000,
      deviceFlow: settings.signIn.deviceFlow,
      providers: settings.signIn.providers.map((provider) => buildProvider(provider, at)),
    },
    issuers: settings.issuers.map((issuer) => buildIssuer(issuer, at)),
    targets: Object.entries(targets).map(([name, { address }]) => ({ name: name.toLowerCase(), ...address })),
    rules: settings.rules.map((rule, index) => buildRule(rule, index, origin)),
    network: settings.network,
    limits: {
      tunnels: limits.tunnels,
      perSubject: limits.perSubject,
      perAddress: limits.perAddress,
      preAuthMs: limits.preAuthSeconds * 1000,
      dialMs: limits.dialSeconds * 1000,
      sessionMs: limits.sessionHours * 3_600_000,
      graceMs: limits.graceSeconds * 1000,
    },
    resume: buildResume(settings.resume),
    audit: { file: at(audit.file), required: audit.required },
    log: settings.log,
  };
}

function buildResume({ keepMinutes, windowKiB, totalMiB, carrierMinutes }: SettingsInput['resume']): ResumeConfig {
  return {
    keepMs: keepMinutes * 60_000,
    windowBytes: windowKiB * 1024,
    totalBytes: totalMiB * 1024 * 1024,
    ...(carrierMinutes !== undefined && { carrierMs: Math.round(carrierMinutes * 60_000) }),
  };
}

function buildIssuer(settings: SettingsInput['issuers'][number], at: (path: string) => string): IssuerConfig {
  const { issuer, audience, jwksUrl, jwksFile, algorithms, groupsClaim, typ, maxLifetimeHours, claims } =
    settings;
  return {
    issuer,
    audience,
    keys: buildKeys(jwksUrl, jwksFile === undefined ? undefined : at(jwksFile)),
    algorithms,
    groupsClaim,
    ...(typ !== undefined && { typ }),
    maxLifetimeMs: maxLifetimeHours * 3_600_000,
    claims: Object.entries(claims).map(([claim, wanted]) => ({ claim, values: [wanted].flat() })),
  };
}

function buildProvider(
  settings: SettingsInput['signIn']['providers'][number],
  at: (path: string) => string,
): ProviderConfig {
  const { name, title = name, clientSecretFile, groups, subjectPrefix = `${name}:`, ...rest } = settings;
  return {
    ...rest,
    name,
    title,
    ...(clientSecretFile !== undefined && { clientSecretFile: at(clientSecretFile) }),
    ...(groups && { groups: new Map(Object.entries(groups)) }),
    subjectPrefix,
  };
}

function buildKeys(url: URL | undefined, file: string | undefined): IssuerConfig['keys'] {
  if (url) return { kind: 'url', url };
  return file === undefined ? { kind: 'discovery' } : { kind: 'file', file };
}

function buildRule(rule: SettingsInput['rules'][number], index: number, origin: Origin): RuleConfig {
  const path = ['rules', index];
  const line = origin.document.locate(path)?.line;
  const where = overriderOf(path, origin.overrides) ?? `${basename(origin.file)}:${line}`;
  const { name, groups, subjects, issuers, targets } = rule;
  return { name: `${name ?? `rule ${index + 1}`} (${where})`, groups, subjects, issuers, targets };
}
