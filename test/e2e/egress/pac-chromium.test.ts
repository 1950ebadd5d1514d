import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { patient } from '../../support/slowness.ts';
import { listen } from '../support/world.ts';
import { browserFlags } from '../support/browser.ts';
import { findProgram, needs } from '../support/needs.ts';
import { openScratch } from '../support/scratch.ts';
import { pacTable } from './pac-table.ts';

const extension = fileURLToPath(new URL('pac-extension', import.meta.url));
const evaluator = fileURLToPath(new URL('pac-evaluator.ts', import.meta.url));
const isAble = spawnSync('unshare', ['--mount', 'true']).status === 0;

/** The names of the table, which are the same for the browser and for us. */
const hosts = `127.0.0.1 localhost gw.example
10.1.2.3 box.corp.test
2001:db8::7 six.corp.test
192.0.2.10 two.corp.test
2001:db8::8 two.corp.test
`;

describe('a PAC file', { skip: needs('chromium').skip || (!isAble && 'no mount namespaces here') }, () => {
  const scratch = openScratch();
  const seen: string[] = [];
  let chosenByChromium: readonly string[];
  let chosenByUs: readonly string[];

  /** Notes the protocol of each connection, and closes it. */
  const note =
    (name: string) =>
    (socket: Socket): void => {
      socket.once('data', (bytes) => {
        if (name === 'direct') seen.push(name);
        else if (bytes[0] === 4 || bytes[0] === 5) seen.push(`socks${bytes[0]} ${name}`);
        else if (bytes[0] === 22) seen.push(`tls ${name}`);
        else if (bytes.toString('latin1').startsWith('CONNECT gw.example:')) seen.push(`http ${name}`);
        socket.destroy();
      });
    };

  /** A program that runs another one with the names of the table. */
  function withHosts(program: string): string {
    const [names, path] = [scratch.path('hosts'), scratch.path(`with-hosts-${program.split('/').at(-1)!}`)];
    writeFileSync(names, hosts);
    const inner = `mount --bind '${names}' /etc/hosts && exec '${program}' "$@"`;
    writeFileSync(
      path,
      `#!/bin/sh\nexec unshare --mount sh -c '${inner.replaceAll("'", `'\\''`)}' sh "$@"\n`,
    );
    chmodSync(path, 0o755);
    return path;
  }

  /** The first hop by each of the files, found by a process that runs meanwhile. */
  async function evaluate(input: object): Promise<readonly string[]> {
    const child = spawn(withHosts(process.execPath), [evaluator], { stdio: ['pipe', 'pipe', 'inherit'] });
    child.stdin.end(JSON.stringify(input));
    return JSON.parse(await text(child.stdout)) as readonly string[];
  }

  before(async () => {
    const [a, b, direct] = await Promise.all(['A', 'B', 'direct'].map((name) => listen(scratch, note(name))));
    const files = pacTable.map(({ file }) =>
      file
        .replaceAll('$A', `127.0.0.1:${a}`)
        .replaceAll('$B', `127.0.0.1:${b}`)
        .replaceAll('$P', String(direct)),
    );
    const names = new Map([
      [`http://127.0.0.1:${a}`, 'http A'],
      [`http://127.0.0.1:${b}`, 'http B'],
      [`https://127.0.0.1:${a}`, 'tls A'],
      [`socks4a://127.0.0.1:${b}`, 'socks4 B'],
      [`socks5h://127.0.0.1:${b}`, 'socks5 B'],
    ]);
    const ours = evaluate({ gateway: { host: 'gw.example', port: direct! }, files });
    const context = await chromium.launchPersistentContext(scratch.path('profile'), {
      executablePath: withHosts(findProgram('chromium')!),
      args: [
        ...browserFlags,
        '--headless=new',
        `--disable-extensions-except=${extension}`,
        `--load-extension=${extension}`,
      ],
      ignoreDefaultArgs: ['--disable-extensions'],
      timeout: patient(30_000),
    });
    scratch.onEnd(() => context.close());
    const worker = context.serviceWorkers()[0] ?? (await context.waitForEvent('serviceworker'));
    const chosen: string[] = [];
    for (const file of files) {
      seen.length = 0;
      await worker.evaluate(
        ([pac, url]) =>
          (globalThis as unknown as { requestBy(pac: string, url: string): Promise<void> }).requestBy(
            pac!,
            url!,
          ),
        // The browser takes no empty text.
        [file || ' ', `https://gw.example:${direct}/`],
      );
      chosen.push(seen[0] ?? 'nothing');
    }
    chosenByChromium = chosen;
    chosenByUs = (await ours).map((hop) => names.get(hop) ?? hop);
  });

  it('that people have many of', () => assert.ok(pacTable.length >= 100));

  for (const [at, { name, answer }] of pacTable.entries()) {
    it(`with ${name} leads where it leads browsers`, () => {
      assert.deepEqual(
        { chromium: chosenByChromium[at], postern: chosenByUs[at] },
        { chromium: answer, postern: answer },
      );
    });
  }
});
