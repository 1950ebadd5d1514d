import type { Duplex } from 'node:stream';
import type { TunnelError } from '../../protocol/errors.ts';
import { Secret } from '../../protocol/secret.ts';
import type { Explanation, Finding } from '../../diagnostics/finding.ts';
import type { Target } from '../../protocol/target.ts';
import { loadEntry } from '../entry/choose.ts';
import { entriesByPreference, entryFacts, entryNames } from '../../protocol/entries.ts';
import type { EntryName } from '../../protocol/entries.ts';
import type { PresentedCredential } from '../credentials/with-credential.ts';
import { sanitize } from '../errors/report.ts';
import { toFailure } from '../errors/failure.ts';
import { withCredential } from '../credentials/with-credential.ts';
import { check, warning, failed, ok, readUntil, skip } from './check.ts';
import type { ClientFacts, ClientOutcome, ClientDoctorContext, Probe } from './check.ts';
import { identificationIn } from './greeting.ts';
import { deadlineSignal } from '../../base/deadline.ts';

/** Which entries get through, each tried to the end: to the target's first bytes where a target is named. */
export const entries = check({
  name: 'entries',
  title: 'entries',
  needs: ['gateway'],
  limitMs: 25_000,
  async run(found, context, signal): Promise<ClientOutcome> {
    const tried: Tried[] = [];
    const waiting = [...entryNames];
    // Some proxies object to more connections at a time.
    await Promise.all(
      [1, 2].map(async () => {
        for (let name = waiting.shift(); name !== undefined; name = waiting.shift())
          tried.push(await tryEntry(name, { found, context, signal }));
      }),
    );
    const inOrder = entryNames.map((name) => tried.find(({ entry }) => entry === name)!);
    const probes = inOrder.flatMap(({ probe }) => (probe === undefined ? [] : [probe]));
    const passing = new Set(probes.filter(({ state }) => state !== 'blocked').map((each) => each.entry));
    const entry = entriesByPreference.find((name) => passing.has(name));
    return {
      findings: withoutEchoes(inOrder.map((each) => findingOf(each, entry, context))),
      found: { probes, ...(entry === undefined ? {} : { entry }) },
    };
  },
});

/** The result for one entry: a probe, or why there is none. */
type Tried =
  | { readonly entry: EntryName; readonly probe: Probe; readonly why?: undefined }
  | { readonly entry: EntryName; readonly probe?: undefined; readonly why: string };

interface Circumstances {
  readonly found: Partial<ClientFacts> & Pick<ClientFacts, 'gateway'>;
  readonly context: ClientDoctorContext;
  readonly signal: AbortSignal;
}

/** The gateway takes 10 s for a target at most; without credentials, no answer within this time means none at all. */
const entryMs = 6000;
/** With a target to dial first. */
const dialledMs = 11_500;
const greetingMs = 4000;

/** A reserved name (RFC 6761 §6.4): the gateway refuses it and dials nothing. */
const unusedTarget: Target = { host: 'postern-doctor.invalid', port: 22 };

async function tryEntry(entry: EntryName, { found, context, signal }: Circumstances): Promise<Tried> {
  const { settings, egress, target } = context;
  const { gateway, token: sources } = settings;
  if (!found.gateway.entries.includes(entry)) return { entry, why: 'this gateway does not offer it' };
  if (signal.aborted) return { entry, why: 'there was no time left' };
  const clientEntry = await loadEntry(entry);
  const isKnown = found.access !== undefined;
  const limit = deadlineSignal(signal, isKnown && target ? dialledMs : entryMs);
  let isBound = false;
  const use = (pass: PresentedCredential): Promise<Duplex> => {
    isBound = pass.createProof !== undefined;
    return clientEntry.open({ gateway, target: target ?? unusedTarget, ...pass }, egress, limit);
  };
  try {
    // The request is made without a sign-in too: a refusal by the gateway shows that it has arrived.
    const stream = isKnown
      ? await withCredential({ sources, gateway, egress, signal: limit }, use)
      : await use({ token: new Secret('postern-doctor') });
    const greetingLimit = deadlineSignal(signal, greetingMs);
    const { bytes } = await readUntil(stream, isGreeting, greetingLimit);
    stream.destroy();
    return { entry, probe: { entry, state: 'open', greeting: bytes } };
  } catch (error) {
    const failure = toFailure(error);
    if (entry === 'connect' && isBound)
      return { entry, why: 'it accepts tokens and tickets, not a browser sign-in' };
    return { entry, probe: { entry, state: isAnswer(failure) ? 'answered' : 'blocked', failure } };
  }
}

const maxGreetingBytes = 8 * 1024;

function isGreeting(bytes: Buffer): boolean {
  return bytes.length > maxGreetingBytes || identificationIn(bytes) !== undefined;
}

/** Whether the failure comes from the gateway itself; all others come from something before it. */
function isAnswer({ facts }: Pick<TunnelError, 'facts'>): boolean {
  return !['http', 'upgrade', 'network', 'tls', 'proxy', 'configuration'].includes(facts.layer);
}

function findingOf(
  { entry, probe, why }: Tried,
  chosen: EntryName | undefined,
  { target }: ClientDoctorContext,
): Finding {
  const id = { check: `entry-${entry}`, title: entry };
  if (probe === undefined) return skip(id, why);
  if (probe.state === 'open' && probe.greeting!.length === 0 && target !== undefined)
    return ok(id, 'a tunnel opens, but no bytes have come through it');
  if (probe.state !== 'blocked') {
    const how = probe.state === 'open' ? 'a tunnel opens, and bytes come through' : 'the gateway answers';
    return ok(id, `${how}${entry === chosen ? '; ssh uses this one' : ''}`);
  }
  const failure = probe.failure!;
  const isStripped = failure.code === 'UPGRADE_REQUIRED';
  const problem = isStripped ? 'the gateway received the request without its Upgrade field' : failure.message;
  if (chosen === undefined)
    return {
      ...failed(id, failure, blockedWords(entry, failure)),
      ...(isStripped ? { what: problem } : {}),
    };
  // Hardly any web server can forward it, and the other entries do the same.
  if (entry === 'connect')
    return {
      ...skip(id, ''),
      what: sanitize(`not needed, since ${chosen} works: ${problem}`),
    };
  return warning(id, `${problem}; ${chosen} works instead`, costsOf(entry, chosen));
}

/** Advice that was given for one entry is not repeated for the next. */
function withoutEchoes(findings: readonly Finding[]): readonly Finding[] {
  const isEcho = ({ advice }: Finding, at: number): boolean =>
    advice !== undefined && findings.findIndex((each) => each.advice === advice) < at;
  return findings.map((finding, at) => {
    if (!isEcho(finding, at)) return finding;
    const { meaning: _, advice: __, ...rest } = finding;
    return rest;
  });
}

/** What is lost when `entry` does not pass and `chosen` is used instead. */
function costsOf(entry: EntryName, chosen: EntryName): Explanation {
  if (entry !== 'relay') return {};
  const advice =
    'tell the operators of the gateway, or of the proxy, that WebSockets at v4/connect do not get through.';
  if (entryFacts(chosen).upgrade === undefined)
    return { meaning: 'sessions work over ordinary requests and responses, which is slower.', advice };
  return {
    meaning:
      'sessions work, but end with their connection: they do not survive a change of network or suspend.',
    advice,
  };
}

function blockedWords(entry: EntryName, failure: Pick<TunnelError, 'message'>): Explanation {
  if (entry === 'connect') {
    return {
      meaning:
        'most web servers cannot forward CONNECT to a gateway. One of the other entries has to get through.',
    };
  }
  const wanted = entryFacts(entry).upgrade;
  if (wanted === undefined) {
    return {
      meaning: 'requests and responses do not get through as they were sent.',
      advice: 'tell the operators of the gateway; for details, run on its machine: postern-gateway doctor',
    };
  }
  if (/did not answer/.test(failure.message)) {
    return {
      meaning: `an intermediary drops requests to switch to another protocol (Upgrade: ${wanted}).`,
      advice:
        'if there is a proxy, ask its administrators to exempt the gateway from inspection; otherwise tell the operators of the gateway.',
    };
  }
  return {
    meaning: `the request to switch to another protocol (Upgrade: ${wanted}) was stripped or rejected. The web server in front of the gateway, or a proxy, does not forward it.`,
    advice:
      'tell the operators of the gateway. On its machine, this prints the missing line: postern-gateway doctor',
  };
}
