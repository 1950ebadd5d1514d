import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { parseArgs } from '../../base/parse-args.ts';
import { pemCertificates } from '../../base/pem.ts';
import { findingStyle, formatFinding, plainer, toJsonFinding } from '../../diagnostics/render.ts';
import { firstError } from '../../diagnostics/finding.ts';
import type { Finding } from '../../diagnostics/finding.ts';
import { entryFacts, entryNames } from '../../protocol/entries.ts';
import { formatTarget, parseTarget } from '../../protocol/target.ts';
import type { Target } from '../../protocol/target.ts';
import { issueToken, loadKeyFile, ownAudience } from '../auth/gateway-key.ts';
import type { Config } from '../config/config.ts';
import { ownIssuer } from '../config/issuer-urls.ts';
import { defaultConfigFile, loadConfig } from '../config/load.ts';
import type { GatewayDoctorContext } from '../doctor/check.ts';
import { examine } from '../doctor/examine.ts';
import { UsageError, exits, runCommand } from './command.ts';
import type { CommandIo } from './command.ts';
import { explainRefusal } from './explain-refusal.ts';

const usage = 'postern-gateway doctor [--host HOST] [--idle] [--json] [--ca-file FILE] [--config FILE] [URL]';

const shortSeconds = 2;
/** Longer than client and gateway stay silent, and shorter than the time in which an SSH server wants a login. */
const longSeconds = 35;
const tokenMs = 5 * 60_000;

/** Checks the gateway and the web server in front of it from outside, and shows what to change. Exits 1 when a check failed. */
export function doctor(args: string[], io: CommandIo): Promise<number> {
  return runCommand(io, usage, async () => {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: {
        config: { type: 'string', default: defaultConfigFile },
        host: { type: 'string' },
        idle: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        'ca-file': { type: 'string' },
      },
    });
    if (positionals.length > 1)
      throw new UsageError('name one URL, or none to check publicUrl of the configuration');
    const config = await loadConfig(values.config, io.env);
    const host = values.host === undefined ? undefined : parseTarget(values.host);
    const token = await makeToken(config, host);
    const context: GatewayDoctorContext = {
      config,
      url: positionals[0] === undefined ? config.publicUrl : parseUrl(positionals[0]),
      authorities: await readAuthorities(values['ca-file']),
      idleSeconds: values.idle ? longSeconds : shortSeconds,
      explain: (code, target) => explainRefusal(config, code, target),
      ...(host === undefined ? {} : { host }),
      ...(token === undefined ? {} : { token }),
    };
    return report(context, io, values.json);
  });
}

async function report(
  context: GatewayDoctorContext,
  { stdout, env }: CommandIo,
  isJson: boolean,
): Promise<number> {
  const style = findingStyle(env, (stdout as { isTTY?: boolean }).isTTY === true);
  const show = (text: string): void => {
    if (!isJson) stdout.write(text);
  };
  const stop = new AbortController();
  process.once('SIGINT', () => stop.abort());
  show(plainer(`The path to the gateway at ${context.url.href}\n\n`, style));
  const findings = await examine(context, stop.signal, (finding) => show(formatFinding(finding, style)));
  const first = firstError(findings);
  const exit = first === undefined && !stop.signal.aborted ? exits.ok : exits.failure;
  const words = first === undefined ? summarize(findings) : `Fix this first: ${first.title}.`;
  show(plainer(`\n${stop.signal.aborted ? 'You stopped it.' : words}\n`, style));
  if (isJson)
    stdout.write(
      `${JSON.stringify({ version: 1, url: context.url.href, exit, findings: findings.map(toJsonFinding) }, undefined, 2)}\n`,
    );
  return exit;
}

/** Sums up findings without an error: clients get through, as fast as they can or not. */
export function summarize(findings: readonly Finding[]): string {
  const entries = findings.filter(({ check }) => upgradingChecks.has(check));
  const slow = entries.filter(({ status }) => status === 'warning').map(({ title }) => title);
  const isSlow = slow.length > 0 && !entries.some(({ status }) => status === 'ok');
  const costs = findings
    .filter(({ status, title }) => status === 'warning' && !(isSlow && slow.includes(title)))
    .map(({ title }) => title);
  const besides = costs.length === 0 ? '' : ` Worth a look: ${costs.join(', ')}.`;
  if (!isSlow) return `The gateway can be reached.${besides}`;
  return `Works, but slowly: no upgrade reaches the gateway. Fix: ${slow.join(', ')}.${besides}`;
}

/** The entries whose tunnels are one connection; without them there are plain requests only. */
const upgradingChecks: ReadonlySet<string> = new Set(
  entryNames.filter((name) => entryFacts(name).upgrade !== undefined).map((name) => `entry-${name}`),
);

/**
 * Makes a token for these checks, signed with the gateway's own key: without a host it opens no tunnel, with one only to
 * that host. Undefined when there is no key, or it belongs to another user.
 */
async function makeToken(config: Config, host: Target | undefined): Promise<string | undefined> {
  const key = await loadKeyFile(config.keyFile).catch(() => undefined);
  if (key === undefined) return undefined;
  const issuer = ownIssuer(config.publicUrl);
  const rules = config.rules.filter(({ issuers }) => issuers.length === 0 || issuers.includes(issuer));
  return issueToken(key, {
    issuer,
    audience: ownAudience,
    subject: 'postern-doctor',
    groups: host === undefined ? [] : [...new Set(rules.flatMap(({ groups }) => groups))],
    targets: [host === undefined ? 'postern-doctor.invalid:22' : formatTarget(host)],
    ttlMs: tokenMs,
    now: Date.now(),
  });
}

function parseUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.search !== '' || url.hash !== '')
    throw new UsageError('write a URL such as https://gw.example/ssh/');
  if (!url.pathname.endsWith('/')) url.pathname += '/';
  return url;
}

async function readAuthorities(file: string | undefined): Promise<readonly string[]> {
  if (file === undefined) return [];
  try {
    const text = await readFile(file, 'latin1');
    const found = pemCertificates(text);
    if (found.length === 0) throw new TypeError('no certificate');
    for (const pem of found) void new X509Certificate(pem);
    return found;
  } catch (cause) {
    throw new UsageError(`--ca-file: ${file} has no certificates in PEM, or cannot be read`, { cause });
  }
}
