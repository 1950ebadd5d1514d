import { randomBytes } from 'node:crypto';
import type { Finding } from '../../diagnostics/finding.ts';
import { entryFacts } from '../../protocol/entries.ts';
import type { EntryName } from '../../protocol/entries.ts';
import type { Check, Facts, DoctorContext } from './check.ts';
import { linesFor } from './fronts.ts';
import type { Topic } from './fronts.ts';
import { codeIn, probe } from './probe.ts';
import type { ProbeResponse, Knock } from './probe.ts';

const target = { host: 'postern-doctor.invalid', port: '22' };

/**
 * A request for a tunnel by this entry without credentials, which the gateway refuses with a 401; undefined for an entry
 * that needs nothing but ordinary requests.
 */
function tunnelRequest(entry: EntryName): Knock | undefined {
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
export const upgrades: Check = {
  name: 'upgrades',
  title: 'ways in',
  needs: ['isForwarded'],
  limitMs: 20_000,
  async run(found, place, signal) {
    const findings: Finding[] = [];
    const passing: string[] = [];
    for (const entry of place.config.entries) {
      const question = tunnelRequest(entry);
      if (question === undefined) {
        passing.push(entry);
        const speaker = { check: `entry-${entry}`, title: entry };
        findings.push({
          ...speaker,
          verdict: 'good',
          what: 'ordinary requests arrive, and it needs no others',
        });
        continue;
      }
      const answer = await probe(place, question, signal);
      if (arrived(answer)) passing.push(entry);
      findings.push(findingOf(entry, answer, { place, front: found.front }));
    }
    const isAnyPassing = passing.length > 0;
    return {
      findings: findings.map((finding) => (isAnyPassing ? lighter(finding) : finding)),
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
  { place, front }: { readonly place: DoctorContext; readonly front: Facts['front'] },
): Finding {
  const speaker = { check: `entry-${entry}`, title: entry };
  if (arrived(answer)) return { ...speaker, verdict: 'good', what: 'a request for a tunnel arrives' };
  if (entry === 'connect') {
    const what = `not checked: ${front ?? 'the web server'} answers ${answer.status} to CONNECT, as most do`;
    return { ...speaker, verdict: 'unchecked', what };
  }
  const topic: Topic = entryFacts(entry).upgrade === 'websocket' ? 'upgrade' : 'connect-tcp';
  const isStripped = codeIn(answer) === 'UPGRADE_REQUIRED';
  return {
    ...speaker,
    verdict: 'failed',
    what: isStripped
      ? 'the request arrives without its field Upgrade'
      : `the web server answers ${answer.status} itself`,
    meaning: 'clients cannot open a tunnel this way.',
    advice: 'put this in:',
    lines: linesFor(topic, front, place.config),
  };
}

/** Clients take another way, as long as there is one. */
function lighter(finding: Finding): Finding {
  if (finding.verdict !== 'failed') return finding;
  const meaning = 'clients cannot open a tunnel this way, and take another.';
  return { ...finding, verdict: 'costly', meaning };
}
