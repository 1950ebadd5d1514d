import { randomBytes } from 'node:crypto';
import type { Finding } from '../../diagnostics/finding.ts';
import { entryFacts } from '../../protocol/entries.ts';
import type { EntryName } from '../../protocol/entries.ts';
import type { GatewayCheck, GatewayFacts, GatewayDoctorContext } from './check.ts';
import { linesFor } from './fronts.ts';
import type { Topic } from './fronts.ts';
import { codeIn, probe } from './probe.ts';
import type { ProbeResponse, ProbeRequest } from './probe.ts';

const target = { host: 'postern-doctor.invalid', port: '22' };

/**
 * A request for a tunnel by this entry without credentials, which the gateway refuses with a 401; undefined for an entry
 * that needs nothing but ordinary requests.
 */
function tunnelRequest(entry: EntryName): ProbeRequest | undefined {
  const { method, path, upgrade, subprotocol } = entryFacts(entry);
  if (method === 'CONNECT') {
    const authority = `${target.host}:${target.port}`;
    return { method, path: authority, headers: { Host: authority } };
  }
  if (path === undefined || upgrade === undefined) return undefined;
  return {
    path: path.replace('{host}', target.host).replace('{port}', target.port),
    headers: {
      ...upgradeHeaders(upgrade),
      ...(subprotocol === undefined ? {} : { 'Sec-WebSocket-Protocol': subprotocol }),
    },
  };
}

/** Whether requests for tunnels arrive as such, for each entry of the configuration. */
export const upgrades: GatewayCheck = {
  name: 'upgrades',
  title: 'entries',
  needs: ['isForwarded'],
  limitMs: 20_000,
  async run(found, context, signal) {
    const findings: Finding[] = [];
    const passing: string[] = [];
    for (const entry of context.config.entries) {
      const request = tunnelRequest(entry);
      if (request === undefined) {
        passing.push(entry);
        const id = { check: `entry-${entry}`, title: entry };
        findings.push({
          ...id,
          status: 'ok',
          what: 'ordinary requests arrive; it needs no upgrade',
        });
        continue;
      }
      const answer = await probe(context, request, signal);
      if (arrived(answer)) passing.push(entry);
      findings.push(findingOf(entry, answer, { context, front: found.front }));
    }
    const isAnyPassing = passing.length > 0;
    return {
      findings: findings.map((finding) => (isAnyPassing ? asWarning(finding) : finding)),
      found: { passing },
    };
  },
};

function upgradeHeaders(token: string): Record<string, string> {
  const upgrade = { Connection: 'Upgrade', Upgrade: token };
  if (token !== 'websocket') return { ...upgrade, 'Capsule-Protocol': '?1' };
  return {
    ...upgrade,
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
  };
}

/** Whether the gateway itself answered, which requires a sign-in only for tunnels. */
function arrived(answer: ProbeResponse): boolean {
  return codeIn(answer) === 'TOKEN_INVALID' || isRefusedConnect(answer);
}

/** The body of a refused CONNECT is not read; its challenge is ours. */
function isRefusedConnect({ status, headers }: ProbeResponse): boolean {
  return status === 407 && /realm="postern"/.test(String(headers['proxy-authenticate']));
}

function findingOf(
  entry: EntryName,
  answer: ProbeResponse,
  { context, front }: { readonly context: GatewayDoctorContext; readonly front: GatewayFacts['front'] },
): Finding {
  const id = { check: `entry-${entry}`, title: entry };
  if (arrived(answer)) return { ...id, status: 'ok', what: 'a request for a tunnel arrives' };
  if (entry === 'connect') {
    const what = `not checked: ${front ?? 'the web server'} answers ${answer.status} to CONNECT, as most do`;
    return { ...id, status: 'skipped', what };
  }
  const topic: Topic = entryFacts(entry).upgrade === 'websocket' ? 'upgrade' : 'connect-tcp';
  const isStripped = codeIn(answer) === 'UPGRADE_REQUIRED';
  return {
    ...id,
    status: 'error',
    what: isStripped
      ? 'the request arrives without its Upgrade field'
      : `the web server answers ${answer.status} itself`,
    meaning: 'clients cannot open a tunnel through this entry.',
    advice: 'add this:',
    lines: linesFor(topic, front, context.config),
  };
}

/** A warning as long as clients have another entry. */
function asWarning(finding: Finding): Finding {
  if (finding.status !== 'error') return finding;
  const meaning = 'clients cannot open a tunnel through this entry, and use another one.';
  return { ...finding, status: 'warning', meaning };
}
