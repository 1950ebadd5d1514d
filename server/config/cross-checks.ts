import { formatTarget, isAddress, sshPort } from '../../protocol/target.ts';
import { formatPattern } from '../../protocol/target-pattern.ts';
import type { TargetPattern } from '../../protocol/target-pattern.ts';
import type { ListenAddress } from './config.ts';
import { ownIssuer, signInIssuer } from './issuer-urls.ts';
import type { Settings } from './schema.ts';
import type { SettingProblem } from './issue-messages.ts';

type Rule = Settings['rules'][number];
type Issuer = Settings['issuers'][number];

/** The settings that are right one by one: one with problems of its own is absent, in `rules` and `issuers` undefined. */
export type SoundSettings = Partial<Omit<Settings, 'rules' | 'issuers' | 'publicUrl'>> & {
  readonly publicUrl?: URL | undefined;
  readonly rules?: readonly (Rule | undefined)[];
  readonly issuers?: readonly (Issuer | undefined)[];
};

/** The problems between settings that are right one by one. */
export function crossCheck(settings: SoundSettings): readonly SettingProblem[] {
  return [
    ...checkListeners(settings),
    ...checkIssuers(settings),
    ...checkProviders(settings),
    ...(settings.rules ?? []).flatMap((rule, at) => (rule ? checkRule(rule, ['rules', at], settings) : [])),
  ];
}

/** The default of `publicUrl`: the gateway's own listener, when it is on this machine only. */
export function defaultPublicUrl({ listen, tls }: Pick<SoundSettings, 'listen' | 'tls'>): URL | undefined {
  if (listen?.kind !== 'tcp' || !isLoopback(listen.host)) return undefined;
  return new URL(`${tls ? 'https' : 'http'}://${formatTarget(listen)}/ssh/`);
}

function checkListeners(settings: SoundSettings): readonly SettingProblem[] {
  const { listen, admin } = settings;
  const problems: SettingProblem[] = [];
  if (listen && admin && sameListen(listen, admin)) {
    problems.push({ path: ['admin'], message: 'admin and listen must not be the same address' });
  }
  if (listen && 'publicUrl' in settings && !settings.publicUrl) {
    problems.push({
      path: ['publicUrl'],
      message:
        'is missing: write the URL at which clients reach this gateway, for example https://gw.example/ssh/',
    });
  }
  return problems;
}

function checkIssuers({ issuers = [], publicUrl }: SoundSettings): readonly SettingProblem[] {
  return issuers.flatMap((issuer, at) => {
    if (!issuer) return [];
    const path = ['issuers', at];
    const problems: SettingProblem[] = [];
    if (issuers.findIndex((each) => each?.issuer === issuer.issuer) < at) {
      problems.push({ path, message: `${issuer.issuer} is listed twice` });
    }
    if (publicUrl && issuer.issuer === ownIssuer(publicUrl)) {
      problems.push({ path, message: "this is the gateway's own issuer, which is always trusted" });
    }
    if (publicUrl && issuer.issuer === signInIssuer(publicUrl)) {
      problems.push({ path, message: "this is the gateway's own sign-in, which is always trusted" });
    }
    return problems;
  });
}

/** Two people must never share a subject: rules and limits could not tell them apart. */
function checkProviders({ signIn }: SoundSettings): readonly SettingProblem[] {
  if (!signIn) return [];
  const prefixes = signIn.providers.map(({ subjectPrefix }) => subjectPrefix);
  return signIn.providers.flatMap(({ name }, at) => {
    const path = ['signIn', 'providers', at];
    const problems: SettingProblem[] = [];
    if (signIn.providers.findIndex((each) => each.name === name) < at) {
      problems.push({ path, message: `${name} is listed twice` });
    } else if (prefixes.some((each, other) => other !== at && prefixes[at]!.startsWith(each))) {
      problems.push({
        path,
        message: 'its subjects could be those of another provider: change subjectPrefix',
      });
    }
    // Names of accounts have no colon.
    if (signIn.accounts && !prefixes[at]!.includes(':')) {
      const message = `its subjects could be names of accounts: end subjectPrefix with :, or set signIn.accounts: false`;
      problems.push({ path, message });
    }
    return problems;
  });
}

function checkRule(
  rule: Rule,
  path: SettingProblem['path'],
  settings: SoundSettings,
): readonly SettingProblem[] {
  const problems: SettingProblem[] = [];
  if (rule.groups.length === 0 && rule.subjects.length === 0) {
    problems.push({ path, message: 'it applies to no principal: name groups or subjects' });
  }
  if (settings.issuers?.every((each) => each !== undefined) && 'publicUrl' in settings) {
    const own = settings.publicUrl && [ownIssuer(settings.publicUrl), signInIssuer(settings.publicUrl)];
    const known = [...settings.issuers.map((each) => each?.issuer), ...(own ?? [])];
    for (const [at, issuer] of rule.issuers.entries()) {
      if (!known.includes(issuer)) {
        problems.push({ path: [...path, 'issuers', at], message: `${issuer} is not among the issuers` });
      }
    }
  }
  if (settings.targets) {
    const targets = new Map(settings.targets.map((each) => [each.name, each]));
    for (const [at, pattern] of rule.targets.entries()) {
      const message = checkPattern(pattern, targets);
      if (message) problems.push({ path: [...path, 'targets', at], message });
    }
  }
  return problems;
}

/** Reports a pattern that can never match a target: a name of one label has to be in `targets`. */
function checkPattern(
  pattern: TargetPattern,
  targets: ReadonlyMap<string, Settings['targets'][number]>,
): string | undefined {
  const named = targets.get(pattern.host);
  if (named?.port !== undefined && pattern.port !== '*' && pattern.port !== sshPort) {
    return `${formatPattern(pattern)} never matches: targets.${pattern.host} has a port in its address, and serves port ${sshPort} only`;
  }
  const isSingle = pattern.host !== '*' && !pattern.host.includes('.') && !isAddress(pattern.host);
  return isSingle && !named
    ? `${pattern.host} is not in targets; add it there, or write a full DNS name`
    : undefined;
}

function sameListen(one: ListenAddress, other: ListenAddress): boolean {
  if (one.kind === 'unix') return other.kind === 'unix' && one.path === other.path;
  return other.kind === 'tcp' && one.port === other.port && one.port !== 0 && one.host === other.host;
}

function isLoopback(host: string): boolean {
  return host === '::1' || host.startsWith('127.');
}
