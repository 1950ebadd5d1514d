import type { Duplex } from 'node:stream';
import type { TunnelError } from '../../protocol/errors.ts';
import { Secret } from '../../protocol/secret.ts';
import type { Finding } from '../../diagnostics/finding.ts';
import type { Target } from '../../protocol/target.ts';
import { loadEntry } from '../entry/choose.ts';
import { entryFacts, entryNames } from '../../protocol/entries.ts';
import type { EntryName } from '../../protocol/entries.ts';
import type { PresentedCredential } from '../credentials/with-credential.ts';
import { sanitize } from '../errors/report.ts';
import { toFailure } from '../errors/failure.ts';
import { withCredential } from '../credentials/with-credential.ts';
import { check, costly, failed, good, readUntil, unchecked } from './check.ts';
import type { Facts, Outcome, DoctorContext, Probe, Explanation } from './check.ts';
import { identificationIn } from './greeting.ts';
import { deadlineSignal } from '../../base/deadline.ts';

/** Which ways in pass, each tried to the end: to the target's first words where one is named. */
export const entries = check({
  name: 'entries',
  title: 'ways in',
  needs: ['gateway'],
  limitMs: 25_000,
  async run(found, place, signal): Promise<Outcome> {
    const tried: Tried[] = [];
    const waiting = [...entryNames];
    // Some proxies mind more connections at a time.
    await Promise.all(
      [1, 2].map(async () => {
        for (let name = waiting.shift(); name !== undefined; name = waiting.shift())
          tried.push(await tryEntry(name, { found, place, signal }));
      }),
    );
    const inOrder = entryNames.map((name) => tried.find(({ entry }) => entry === name)!);
    const probes = inOrder.flatMap(({ probe }) => (probe === undefined ? [] : [probe]));
    const entry = probes.find(({ state }) => state !== 'blocked')?.entry;
    return {
      findings: withoutEchoes(inOrder.map((each) => findingOf(each, entry, place))),
      found: { probes, ...(entry === undefined ? {} : { entry }) },
    };
  },
});

/** What became of one: a probe, or why there is none. */
type Tried =
  | { readonly entry: EntryName; readonly probe: Probe; readonly why?: undefined }
  | { readonly entry: EntryName; readonly probe?: undefined; readonly why: string };

interface Circumstances {
  readonly found: Partial<Facts> & Pick<Facts, 'gateway'>;
  readonly place: DoctorContext;
  readonly signal: AbortSignal;
}

/** The gateway thinks 10 s about a target at most; but what does not answer a stranger in this time never will. */
const entryMs = 6000;
/** With a target to dial first. */
const dialledMs = 11_500;
const greetingMs = 4000;

/** No name of anybody's: reserved (RFC 6761 §6.4), so that the gateway says no and dials nothing. */
const nobody: Target = { host: 'postern-doctor.invalid', port: 22 };

async function tryEntry(entry: EntryName, { found, place, signal }: Circumstances): Promise<Tried> {
  const { settings, egress, target } = place;
  const { gateway, token: sources } = settings;
  if (!found.gateway.entries.includes(entry)) return { entry, why: 'this gateway does not offer it' };
  if (signal.aborted) return { entry, why: 'there was no time left' };
  const way = await loadEntry(entry);
  const isKnown = found.access !== undefined;
  const limit = deadlineSignal(signal, isKnown && target ? dialledMs : entryMs);
  let isBound = false;
  const use = (pass: PresentedCredential): Promise<Duplex> => {
    isBound = pass.createProof !== undefined;
    return way.open({ gateway, target: target ?? nobody, ...pass }, egress, limit);
  };
  try {
    // Who has not signed in asks all the same: a refusal by the gateway shows that the question has arrived.
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
      return { entry, why: 'it takes tokens and tickets, not a sign-in with the browser' };
    return { entry, probe: { entry, state: isAnswer(failure) ? 'answered' : 'blocked', failure } };
  }
}

const maxGreetingBytes = 8 * 1024;

function isGreeting(bytes: Buffer): boolean {
  return bytes.length > maxGreetingBytes || identificationIn(bytes) !== undefined;
}

/** Whether the gateway itself has said it; all else has been said, or kept silent, by something before it. */
function isAnswer({ facts }: Pick<TunnelError, 'facts'>): boolean {
  return !['http', 'upgrade', 'network', 'tls', 'proxy', 'configuration'].includes(facts.layer);
}

function findingOf(
  { entry, probe, why }: Tried,
  chosen: EntryName | undefined,
  { target }: DoctorContext,
): Finding {
  const speaker = { check: `entry-${entry}`, title: entry };
  if (probe === undefined) return unchecked(speaker, why);
  if (probe.state === 'open' && probe.greeting!.length === 0 && target !== undefined)
    return good(speaker, 'a tunnel opens; nothing has come through it');
  if (probe.state !== 'blocked') {
    const how = probe.state === 'open' ? 'a tunnel opens, and bytes come through' : 'the gateway answers';
    return good(speaker, `${how}${entry === chosen ? '; ssh takes this one' : ''}`);
  }
  const failure = probe.failure!;
  const isStripped = failure.code === 'UPGRADE_REQUIRED';
  const said = isStripped ? 'the gateway got the request without its field Upgrade' : failure.message;
  if (chosen === undefined)
    return {
      ...failed(speaker, failure, blockedWords(entry, failure)),
      ...(isStripped ? { what: said } : {}),
    };
  // Hardly any web server can forward it, and nobody misses it.
  if (entry === 'connect')
    return {
      ...unchecked(speaker, ''),
      what: sanitize(`not needed, since ${chosen} works: ${said}`),
    };
  return costly(speaker, `${said}; ${chosen} works in its place`, costsOf(entry, chosen));
}

/** What was said of one way in need not be said of the next. */
function withoutEchoes(findings: readonly Finding[]): readonly Finding[] {
  const isEcho = ({ advice }: Finding, at: number): boolean =>
    advice !== undefined && findings.findIndex((each) => each.advice === advice) < at;
  return findings.map((finding, at) => {
    if (!isEcho(finding, at)) return finding;
    const { meaning: _, advice: __, ...rest } = finding;
    return rest;
  });
}

/** What is lost when `entry` does not pass and `chosen` is taken in its place. */
function costsOf(entry: EntryName, chosen: EntryName): Explanation {
  if (entry !== 'relay') return {};
  const advice = 'tell those who run the gateway, or the proxy, that WebSockets at v4/connect do not pass.';
  if (entryFacts(chosen).upgrade === undefined)
    return { meaning: 'sessions work, by ordinary requests and answers, which is slower.', advice };
  return {
    meaning:
      'sessions work, but end with their connection: they do not survive a change of network or a sleep.',
    advice,
  };
}

function blockedWords(entry: EntryName, failure: Pick<TunnelError, 'message'>): Explanation {
  if (entry === 'connect') {
    return {
      meaning: 'most web servers cannot forward CONNECT to a gateway. One of the other ways has to pass.',
    };
  }
  const wanted = entryFacts(entry).upgrade;
  if (wanted === undefined) {
    return {
      meaning: 'requests and answers do not get through as they were sent.',
      advice: 'tell those who run the gateway; on its machine this says more: postern-gateway doctor',
    };
  }
  if (/did not answer/.test(failure.message)) {
    return {
      meaning: `something on the way swallows requests to switch to another protocol (Upgrade: ${wanted}).`,
      advice:
        'if there is a proxy, ask for the gateway to be exempted from inspection; else tell those who run the gateway.',
    };
  }
  return {
    meaning: `the request arrived without its wish to switch to another protocol (Upgrade: ${wanted}), or was turned away for it. The web server before the gateway, or a proxy on the way, does not forward it.`,
    advice:
      'tell those who run the gateway; on its machine this says which line is missing: postern-gateway doctor',
  };
}
