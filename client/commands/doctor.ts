import { parseArgs } from '../../base/parse-args.ts';
import { findingStyle, formatFinding, plainer, toJsonFinding } from '../../diagnostics/render.ts';
import type { JsonFinding } from '../../diagnostics/render.ts';
import { formatTarget, parseTarget, parseTargetParts } from '../../protocol/target.ts';
import type { Target } from '../../protocol/target.ts';
import type { ClientDoctorContext } from '../doctor/check.ts';
import { examine } from '../doctor/examine.ts';
import { summarize } from '../doctor/summary.ts';
import { formatReport } from '../doctor/report.ts';
import { writeStderr } from '../errors/report.ts';
import { ClientError } from '../errors/failure.ts';
import { reason, replaceFile } from '../os/files.ts';
import type { Environment } from '../os/xdg-paths.ts';
import { egressFor } from '../connect/gateway-egress.ts';
import { gatewayOptions, settingsWith } from './options.ts';

/** The output of `postern doctor --json`; `version` counts changes of this shape. */
export interface Diagnosis {
  readonly version: 1;
  readonly gateway: string;
  readonly host?: string;
  /** Whether ssh would work, as far as it was checked. */
  readonly works: boolean;
  readonly exit: number;
  readonly findings: readonly JsonFinding[];
}

/** How long connections are held idle with `--idle`. */
const idleSeconds = [30, 60, 120, 300];

/** Runs `postern doctor`. Exits with 0 when ssh would work, else with the exit code of the first error. */
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
  const target = parseHost(positionals);
  const settings = settingsWith(values, env);
  const style = findingStyle(env, process.stdout.isTTY);
  const show = values.json === true ? (): void => {} : print;
  const to = target === undefined ? '' : ` to ${formatTarget(target)}`;
  show(plainer(`The path${to} through ${settings.gateway.href}\n\n`, style));

  const stop = new AbortController();
  process.once('SIGINT', () => stop.abort());
  const context: ClientDoctorContext = {
    settings,
    // A proxy setting that is not valid is one of the findings.
    egress: {
      name: 'the route',
      connect: async (gateway, signal) => egressFor(settings).connect(gateway, signal),
    },
    idleSeconds: values.idle === true ? idleSeconds : [],
    ...(target === undefined ? {} : { target }),
  };
  const findings = await examine(context, stop.signal, (finding) => show(formatFinding(finding, style)));
  const { works, exit, words } = summarize(findings, target, stop.signal.aborted);
  show(plainer(`\n${words}\n`, style));

  const { gateway, paths } = settings;
  if (values.json === true) {
    const host = target === undefined ? {} : { host: formatTarget(target) };
    const diagnosis: Diagnosis = {
      version: 1,
      gateway: gateway.href,
      ...host,
      works,
      exit,
      findings: findings.map(toJsonFinding),
    };
    print(`${JSON.stringify(diagnosis, undefined, 2)}\n`);
  }
  if (values.report !== undefined)
    writeReport(values.report, formatReport({ gateway, target, findings, words, home: paths.home }));
  return exit;
}

function parseHost([host, port, ...rest]: readonly string[]): Target | undefined {
  if (rest.length > 0)
    throw new ClientError('USAGE', 'doctor takes at most a host and a port', {
      hint: 'postern doctor --help',
    });
  if (host === undefined) return undefined;
  if (port !== undefined) return parseTargetParts(host, port);
  return /^[^[\]]*:[^[\]]*:/.test(host) ? parseTargetParts(host, '22') : parseTarget(host);
}

function writeReport(path: string, text: string): void {
  try {
    replaceFile(path, text, 0o600);
  } catch (cause) {
    throw new ClientError('CONFIG_INVALID', `cannot write the report to ${path}: ${reason(cause)}`, {
      cause,
    });
  }
  writeStderr(`postern: the report is in ${path}; its first lines list its contents\n`);
}
