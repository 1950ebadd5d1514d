import { parseArgs } from 'node:util';
import { firstFailure, formatFinding, plainer } from '../../protocol/finding.ts';
import type { Finding, FindingStyle } from '../../protocol/finding.ts';
import { tunnelErrors } from '../../protocol/errors.ts';
import { formatTarget, parseTarget, parseTargetParts } from '../../protocol/target.ts';
import type { Target } from '../../protocol/target.ts';
import { examine } from '../doctor/examine.ts';
import { formatReport } from '../doctor/report.ts';
import { say } from '../explain.ts';
import { Failure } from '../failure.ts';
import { reason, replaceFile } from '../files.ts';
import type { Environment } from '../places.ts';
import { wayOut } from '../way-out.ts';
import { gatewayOptions, settingsWith } from './options.ts';

/** What `postern doctor --json` prints; `version` counts changes of this shape. */
export interface Diagnosis {
  readonly version: 1;
  readonly gateway: string;
  readonly host?: string;
  /** Whether ssh would work, as far as it was examined. */
  readonly works: boolean;
  readonly exit: number;
  readonly findings: readonly Finding[];
}

/** How long connections are held idle with `--idle`. */
const idleSeconds = [30, 60, 120, 300];

/** The exit code after Ctrl-C, as a shell has it. */
const interrupted = 130;

/** Runs `postern doctor`: exits 0 when nothing keeps ssh from working, else as the first thing that does. */
export async function doctor(
  args: readonly string[],
  env: Environment,
  print: (text: string) => void,
): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    options: { ...gatewayOptions, idle: { type: 'boolean' }, report: { type: 'string' } },
    allowPositionals: true,
  });
  const target = parseAsked(positionals);
  const settings = settingsWith(values, env);
  const style = styleOf(env, process.stdout.isTTY);
  const isJson = values.json === true;
  const show = (text: string): void => {
    if (!isJson) print(plainer(text, style));
  };
  const where = target === undefined ? '' : ` to ${formatTarget(target)}`;
  show(`The path${where} through ${settings.gateway.href}\n\n`);
  const stop = new AbortController();
  const onInterrupt = (): void => stop.abort();
  process.once('SIGINT', onInterrupt);
  const findings = await examine(
    {
      settings,
      egress: wayOut(settings),
      idleSeconds: values.idle === true ? idleSeconds : [],
      ...(target === undefined ? {} : { target }),
    },
    stop.signal,
    (finding) => {
      if (!isJson) print(formatFinding(finding, style));
    },
  );
  process.off('SIGINT', onInterrupt);
  const conclusion = conclusionOf(findings, target);
  show(`\n${conclusion}\n`);
  const diagnosis: Diagnosis = {
    version: 1,
    gateway: settings.gateway.href,
    ...(target === undefined ? {} : { host: formatTarget(target) }),
    works: firstFailure(findings) === undefined && !stop.signal.aborted,
    exit: exitOf(findings, stop.signal.aborted),
    findings,
  };
  if (isJson) print(`${JSON.stringify(diagnosis, undefined, 2)}\n`);
  if (values.report !== undefined) {
    const text = formatReport({
      gateway: settings.gateway,
      target,
      findings,
      conclusion,
      home: settings.places.home,
    });
    writeReport(values.report, text);
  }
  return diagnosis.exit;
}

function parseAsked([host, port, ...rest]: readonly string[]): Target | undefined {
  if (rest.length > 0)
    throw new Failure('USAGE', 'doctor takes a host and a port, nothing more', {
      hint: 'postern doctor --help',
    });
  if (host === undefined) return undefined;
  if (port !== undefined) return parseTargetParts(host, port);
  return /^[^[\]]*:[^[\]]*:/.test(host) ? parseTargetParts(host, '22') : parseTarget(host);
}

/** Colours for terminals that have them, and signs that this terminal can show. */
export function styleOf(env: Environment, isTerminal: boolean): FindingStyle {
  const language = [env['LC_ALL'], env['LC_CTYPE'], env['LANG']].find(
    (text) => text !== undefined && text !== '',
  );
  const isOn = (name: string): boolean => (env[name] ?? '') !== '';
  return {
    isUnicode: /utf-?8/i.test(language ?? '') || (language === undefined && isOn('WT_SESSION')),
    isColored: isTerminal && !isOn('NO_COLOR') && env['TERM'] !== 'dumb',
  };
}

function conclusionOf(findings: readonly Finding[], target: Target | undefined): string {
  const first = firstFailure(findings);
  const asked = target === undefined ? 'ssh' : `ssh to ${formatTarget(target)}`;
  if (first !== undefined) return `${asked} cannot work. What comes first: ${first.title}.`;
  if (target !== undefined && !findings.some(({ check, verdict }) => check === 'ssh' && verdict === 'good'))
    return `Nothing that would keep ${asked} from working was found, but not everything was checked.`;
  const costs = findings.filter(({ verdict }) => verdict === 'costly').map(({ title }) => title);
  const besides = costs.length === 0 ? '' : ` Worth a look: ${costs.join(', ')}.`;
  if (target === undefined)
    return `The path to the gateway is good.${besides} To go on to a host: postern doctor HOST`;
  return `${asked} works.${besides}`;
}

function exitOf(findings: readonly Finding[], isInterrupted: boolean): number {
  const first = firstFailure(findings);
  if (first !== undefined) return tunnelErrors[first.code ?? 'INTERNAL'].exit;
  return isInterrupted ? interrupted : 0;
}

function writeReport(path: string, text: string): void {
  try {
    replaceFile(path, text, 0o600);
  } catch (cause) {
    throw new Failure('CONFIG_INVALID', `cannot write the report to ${path}: ${reason(cause)}`, { cause });
  }
  say(`postern: the report is in ${path}; it says at its top what is in it\n`);
}
