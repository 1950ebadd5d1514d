import { randomBytes } from 'node:crypto';
import type { Finding } from '../../diagnostics/finding.ts';
import type { EntryName } from '../config/config.ts';
import type { GatewayCheck, GatewayFacts, GatewayDoctorContext } from './check.ts';
import { linesFor } from './fronts.ts';
import type { Topic } from './fronts.ts';
import { codeIn, probe } from './probe.ts';
import type { ProbeResponse, ProbeRequest } from './probe.ts';

/** How each entry is asked for a tunnel by somebody who does not say who they are; the gateway refuses that with a 401. */
const questions: Partial<Record<EntryName, () => ProbeRequest>> = {
  relay: () => ({
    path: 'v4/connect?host=postern-doctor.invalid&port=22',
    headers: { ...webSocket(), 'Sec-WebSocket-Protocol': 'postern.relay.v1' },
  }),
  websocket: () => ({ path: 'tcp/postern-doctor.invalid/22/', headers: webSocket() }),
  'connect-tcp': () => ({
    path: 'tcp/postern-doctor.invalid/22/',
    headers: { Connection: 'Upgrade', Upgrade: 'connect-tcp', 'Capsule-Protocol': '?1' },
  }),
  connect: () => ({
    method: 'CONNECT',
    path: 'postern-doctor.invalid:22',
    headers: { Host: 'postern-doctor.invalid:22' },
  }),
};

/** Whether requests for tunnels arrive as such, for each entry of the configuration. */
export const upgrades: GatewayCheck = {
  name: 'upgrades',
  title: 'ways in',
  needs: ['isForwarded'],
  limitMs: 20_000,
  async run(found, context, signal) {
    const findings: Finding[] = [];
    const passing: string[] = [];
    for (const entry of context.config.entries) {
      const question = questions[entry];
      if (question === undefined) {
        passing.push(entry);
        const id = { check: `entry-${entry}`, title: entry };
        findings.push({
          ...id,
          status: 'ok',
          what: 'ordinary requests arrive, and it needs no others',
        });
        continue;
      }
      const answer = await probe(context, question(), signal);
      if (arrived(answer)) passing.push(entry);
      findings.push(findingOf(entry, answer, { context, front: found.front }));
    }
    const isAnyPassing = passing.length > 0;
    return {
      findings: findings.map((finding) => (isAnyPassing ? lighter(finding) : finding)),
      found: { passing },
    };
  },
};

function webSocket(): Record<string, string> {
  return {
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
  };
}

/** It is the gateway that asks to sign in, and it does so only for a tunnel. */
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
  const topic: Topic = entry === 'connect-tcp' ? 'connect-tcp' : 'upgrade';
  const isStripped = codeIn(answer) === 'UPGRADE_REQUIRED';
  return {
    ...id,
    status: 'error',
    what: isStripped
      ? 'the request arrives without its field Upgrade'
      : `the web server answers ${answer.status} itself`,
    meaning: 'clients cannot open a tunnel this way.',
    advice: 'put this in:',
    lines: linesFor(topic, front, context.config),
  };
}

/** Clients take another way, as long as there is one. */
function lighter(finding: Finding): Finding {
  if (finding.status !== 'error') return finding;
  const meaning = 'clients cannot open a tunnel this way, and take another.';
  return { ...finding, status: 'warning', meaning };
}
