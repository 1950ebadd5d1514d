import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { describe, it } from 'node:test';
import { direct } from '../../../client/egress/direct.ts';
import { openTunnel } from '../../../client/entry/choose.ts';
import { entriesByPreference } from '../../../protocol/entries.ts';
import type { EntryName } from '../../../protocol/entries.ts';
import { entryCache } from '../../../client/entry/entry-cache.ts';
import { ClientError } from '../../../client/errors/failure.ts';
import { isTunnelErrorCode, tunnelErrors } from '../../../protocol/errors.ts';
import type { TunnelErrorCode } from '../../../protocol/errors.ts';
import { temporaryDirectory, tunnelRequest } from '../support.ts';

type Outcome = TunnelErrorCode | 'opens';

const request = tunnelRequest(1);
const signal = new AbortController().signal;
const open = entriesByPreference.map(() => 'opens' as const);

/** Runs the choice over entries with these outcomes, in the order of preference; gives what was tried and the end. */
async function choose(
  state: string,
  outcomes: readonly Outcome[],
  via?: EntryName,
): Promise<{ tried: EntryName[]; end: string; message: string }> {
  const tried: EntryName[] = [];
  const load = async (name: EntryName) => ({
    name,
    open: async () => {
      tried.push(name);
      const outcome = outcomes[entriesByPreference.indexOf(name)]!;
      if (isTunnelErrorCode(outcome)) throw new ClientError(outcome, `by ${name}`, { requestId: name });
      return new PassThrough();
    },
  });
  try {
    await openTunnel(request, direct, { load, memory: entryCache(state), signal, ...(via ? { via } : {}) });
    return { tried, end: 'opens', message: '' };
  } catch (error) {
    const { code, message } = error as ClientError;
    return { tried, end: code, message };
  }
}

describe('openTunnel()', () => {
  for (const [outcomes, tried, end] of [
    [['opens', 'opens', 'opens', 'opens', 'opens'], 1, 'opens'],
    [['UPGRADE_REFUSED', 'opens', 'opens', 'opens', 'opens'], 2, 'opens'],
    [['ENTRY_UNKNOWN', 'HTTP_UNEXPECTED', 'ENTRY_UNKNOWN', 'opens', 'opens'], 4, 'opens'],
    [['UPGRADE_REFUSED', 'HTTP_UNEXPECTED', 'HTTP_UNEXPECTED', 'HTTP_UNEXPECTED', 'opens'], 5, 'opens'],
    [
      ['UPGRADE_REFUSED', 'HTTP_UNEXPECTED', 'HTTP_UNEXPECTED', 'HTTP_UNEXPECTED', 'HTTP_UNEXPECTED'],
      5,
      'UPGRADE_REFUSED',
    ],
    [['HTTP_UNEXPECTED', 'TARGET_DENIED', 'opens', 'opens', 'opens'], 2, 'TARGET_DENIED'],
  ] as const) {
    it(`tries ${tried} of ${outcomes.join(', ')} and ends with ${end}`, async (t) => {
      const done = await choose(temporaryDirectory(t), outcomes);
      assert.deepEqual(done.tried, entriesByPreference.slice(0, tried));
      assert.equal(done.end, end);
    });
  }

  it('asks for no other upgrade when the gateway says that it saw none', async (t) => {
    const outcomes = ['UPGRADE_REQUIRED', 'ENTRY_UNKNOWN', 'opens', 'opens', 'opens'] as const;
    const done = await choose(temporaryDirectory(t), outcomes);
    assert.deepEqual(done.tried, ['relay', 'http', 'connect']);
  });

  it('remembers for this network alone', (t) => {
    const state = temporaryDirectory(t);
    let network = 'home';
    const memory = entryCache(state, Date.now, () => network);
    memory.keep(request.gateway, 'relay');
    network = 'train';
    assert.equal(memory.recall(request.gateway), undefined);
    memory.keep(request.gateway, 'http');
    assert.equal(memory.recall(request.gateway), 'http');
    network = 'home';
    assert.equal(memory.recall(request.gateway), 'relay');
  });

  for (const code of Object.keys(tunnelErrors) as TunnelErrorCode[]) {
    // A limit of the client's own, and no answer: see opening.test.ts.
    if (code === 'GATEWAY_TIMEOUT') continue;
    const { layer }: { layer: string } = tunnelErrors[code];
    const goesOn = layer === 'http' || layer === 'upgrade';
    it(`${goesOn ? 'goes on' : 'stops'} after ${code}`, async (t) => {
      const done = await choose(temporaryDirectory(t), [code, 'opens', 'opens', 'opens', 'opens']);
      assert.deepEqual(done.tried.length, goesOn ? 2 : 1);
    });
  }

  it('remembers what worked, tries it first, and the others when it fails', async (t) => {
    const state = temporaryDirectory(t);
    await choose(state, ['UPGRADE_REFUSED', 'HTTP_UNEXPECTED', 'ENTRY_UNKNOWN', 'opens', 'opens']);
    assert.deepEqual((await choose(state, open)).tried, ['connect-tcp']);
    const back = await choose(state, ['opens', 'opens', 'opens', 'HTTP_UNEXPECTED', 'opens']);
    assert.deepEqual(back.tried, ['connect-tcp', 'relay']);
    assert.deepEqual((await choose(state, open)).tried, ['relay']);
  });

  it('names those it tried, and the first in the usual order decides', async (t) => {
    const state = temporaryDirectory(t);
    entryCache(state).keep(request.gateway, 'connect');
    const failing = [
      'UPGRADE_REFUSED',
      ...Array.from({ length: 4 }, () => 'HTTP_UNEXPECTED' as const),
    ] as const;
    const done = await choose(state, failing);
    assert.equal(done.end, 'UPGRADE_REFUSED');
    assert.match(done.message, /connect, relay, http, websocket, connect-tcp/);
  });

  it('tries only the one that is asked for, and remembers nothing of it', async (t) => {
    const state = temporaryDirectory(t);
    assert.deepEqual(
      await choose(state, ['opens', 'opens', 'opens', 'UPGRADE_REFUSED', 'opens'], 'connect-tcp'),
      {
        tried: ['connect-tcp'],
        end: 'UPGRADE_REFUSED',
        message: 'by connect-tcp',
      },
    );
    await choose(state, open, 'connect');
    assert.equal(entryCache(state).recall(request.gateway), undefined);
  });
});

describe('entryCache()', () => {
  for (const damage of [
    '',
    '{',
    'null',
    '[1]',
    '7',
    '{"http://127.0.0.1:1/ssh/":"__proto__"}',
    '{"http://127.0.0.1:1/ssh/":"websocket"}',
    '{"http://127.0.0.1:1/ssh/":{"entry":"__proto__","until":4e12}}',
    '{"http://127.0.0.1:1/ssh/":{"entry":"websocket","until":4e12}}',
    'x'.repeat(1 << 17),
  ]) {
    it(`takes ${JSON.stringify(damage.slice(0, 40))} for nothing and writes it anew`, (t) => {
      const state = temporaryDirectory(t);
      writeFileSync(join(state, 'entries.json'), damage);
      const memory = entryCache(state);
      assert.equal(memory.recall(request.gateway), undefined);
      memory.keep(request.gateway, 'connect');
      assert.equal(memory.recall(request.gateway), 'connect');
    });
  }

  const minute = 60_000;
  for (const [entry, evidence, ms] of [
    ['relay', 'refused', 7 * 24 * 60 * minute],
    ['http', 'refused', 24 * 60 * minute],
    ['http', 'lost', 10 * minute],
    ['websocket', 'refused', 60 * minute],
  ] as const) {
    it(`forgets ${entry} after ${ms / minute} minutes where others were ${evidence}`, (t) => {
      const state = temporaryDirectory(t);
      let now = Date.now();
      const memory = entryCache(state, () => now);
      memory.keep(request.gateway, entry, evidence);
      now += 0.9 * ms;
      memory.keep(request.gateway, entry, evidence);
      assert.equal(memory.recall(request.gateway), entry);
      assert.equal(memory.isProvisional(request.gateway), evidence === 'lost');
      now += 0.2 * ms;
      assert.equal(memory.recall(request.gateway), undefined);
      memory.keep(request.gateway, entry, evidence);
      assert.equal(memory.recall(request.gateway), entry);
    });
  }

  it('never remembers an entry that cannot resume because the others were lost', (t) => {
    const memory = entryCache(temporaryDirectory(t));
    memory.keep(request.gateway, 'websocket', 'lost');
    assert.equal(memory.recall(request.gateway), undefined);
    memory.keep(request.gateway, 'http', 'lost');
    memory.keep(request.gateway, 'connect', 'lost');
    assert.equal(memory.recall(request.gateway), 'http');
  });

  it('does not trust what an older version kept for a week after a loss', (t) => {
    const state = temporaryDirectory(t);
    const write = (entry: EntryName, hours: number): void => {
      const until = Date.now() + hours * 3_600_000;
      const key = `${request.gateway.href} here`;
      writeFileSync(join(state, 'entries.json'), JSON.stringify({ [key]: { entry, until } }));
    };
    const recalled = (): EntryName | undefined =>
      entryCache(state, Date.now, () => 'here').recall(request.gateway);
    for (const entry of ['websocket', 'connect-tcp', 'connect'] as const) {
      write(entry, 100);
      assert.equal(recalled(), undefined);
      write(entry, 0.5);
      assert.equal(recalled(), undefined);
    }
    write('http', 23);
    assert.equal(recalled(), 'http');
    write('relay', 100);
    assert.equal(recalled(), 'relay');
  });

  it('that an intermediary buffers does not make plain requests the first choice', (t) => {
    const memory = entryCache(temporaryDirectory(t));
    memory.keepBuffering(request.gateway);
    assert.equal(memory.recall(request.gateway), 'relay');
    assert.equal(memory.recallBuffering(request.gateway), true);
    memory.keep(request.gateway, 'http', 'lost');
    memory.keepBuffering(request.gateway);
    assert.deepEqual([memory.recall(request.gateway), memory.isProvisional(request.gateway)], ['http', true]);
  });

  it('does not mind a directory that cannot be written', (t) => {
    const state = join(temporaryDirectory(t), 'file');
    writeFileSync(state, '');
    entryCache(join(state, 'state')).keep(request.gateway, 'connect');
    mkdirSync(join(state, '..', 's', 'entries.json'), { recursive: true });
    entryCache(join(state, '..', 's')).keep(request.gateway, 'connect');
  });

  it('is for this user only and does not grow without end', (t) => {
    const state = join(temporaryDirectory(t), 'state');
    for (let at = 1; at <= 80; at++) entryCache(state).keep(new URL(`https://gw${at}.example/`), 'websocket');
    const path = join(state, 'entries.json');
    assert.equal(Object.keys(JSON.parse(readFileSync(path, 'utf8')) as object).length, 64);
    assert.equal(entryCache(state).recall(new URL('https://gw80.example/')), 'websocket');
    assert.equal(statSync(path).mode & 0o777, 0o600);
  });
});
