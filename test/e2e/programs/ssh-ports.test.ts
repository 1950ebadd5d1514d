// Rules and `postern setup` can name hosts with a port: a real ssh then uses that port for them, and for no other host.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { setup } from '../../../client/commands/setup.ts';
import { accessPage } from '../../../server/login/pages/access-page.ts';
import { openScratch } from '../support/scratch.ts';

const scratch = openScratch();

interface Case {
  readonly patterns: readonly string[];
  /** The arguments of `postern setup` that the access page prints. */
  readonly options: string;
  readonly ports: Readonly<Record<string, number>>;
  readonly onlyOnPage?: Readonly<Record<string, number>>;
}

const cases: readonly Case[] = [
  { patterns: ['box:22'], options: '--host box', ports: { box: 22 } },
  { patterns: ['db:5432'], options: '--host db:5432', ports: { db: 5432, box: 22 } },
  {
    patterns: ['box:22', 'db:5432', '*.dev.example:2222'],
    options: "--host box --host db:5432 --host '*.dev.example:2222'",
    ports: { box: 22, db: 5432, 'a.dev.example': 2222, 'dev.example': 22 },
  },
  // A host with both keeps the usual one; any port is no port.
  { patterns: ['db:5432', 'db:22'], options: '--host db', ports: { db: 22 } },
  { patterns: ['db:5432', 'db:*'], options: '--host db', ports: { db: 22 } },
  { patterns: ['db:5432', 'db:5433'], options: '--host db:5432', ports: { db: 5432 } },
  // The more exact name counts, in whatever order the rules have them.
  {
    patterns: ['*.example:2222', '*.dev.example:2200', 'box.dev.example:22', '*.ops.example:22'],
    options:
      "--host '*.example:2222' --host '*.dev.example:2200' --host box.dev.example --host '*.ops.example'",
    ports: { 'a.example': 2222, 'a.dev.example': 2200, 'box.dev.example': 22, 'a.ops.example': 22 },
  },
  { patterns: ['*:2222', 'box:22'], options: "--host '*:2222' --host box", ports: { box: 22, other: 2222 } },
  {
    patterns: ['[2001:db8::1]:2222', '192.0.2.1:23'],
    options: '--host 192.0.2.1:23',
    // `setup` takes no IPv6 address; the block to copy has it.
    onlyOnPage: { '2001:db8::1': 2222 },
    ports: { '192.0.2.1': 23, '2001:db8::2': 22 },
  },
];

function portOf(configFile: string, host: string): number {
  const output = execFileSync('ssh', ['-F', configFile, '-G', host], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return Number(/^port (\d+)$/m.exec(output)?.[1]);
}

/** The commands that the page shows to copy, as they are copied. */
function shownCommands(patterns: readonly string[]): readonly string[] {
  const page = accessPage({
    publicUrl: new URL('https://gw.example/ssh/'),
    token: 't',
    now: 0,
    subject: 'alice',
    groups: [],
    until: 1,
    hosts: patterns,
    sessions: [],
    signIns: [],
    signInId: 's',
  });
  return [...page.matchAll(/<pre[^>]*>(.*?)<\/pre>/gs)].map(([, text = '']) =>
    text.replaceAll(/<[^>]*>/g, '').replaceAll(/&#(\d+);/g, (_, code) => String.fromCodePoint(Number(code))),
  );
}

for (const [at, { patterns, options, ports, onlyOnPage }] of cases.entries()) {
  describe(`for ${patterns.join(' and ')}`, () => {
    const shown = shownCommands(patterns);

    it('the access page prints a command with the ports, and a block that ssh reads with them', () => {
      const command = shown.find((text) => text.includes('postern setup'));
      assert.equal(command, `postern setup --gateway https://gw.example/ssh/ ${options}`);
      const file = scratch.path(`page-${at}`);
      writeFileSync(file, `${shown.find((text) => text.startsWith('Host '))}\n`);
      for (const [host, port] of Object.entries({ ...ports, ...onlyOnPage }))
        assert.equal(portOf(file, host), port, host);
    });

    it('and setup writes the same', () => {
      const home = scratch.path(`home-${at}`);
      const given = [...options.matchAll(/--host '?([^' ]+)'?/g)].flatMap(([, host = '']) => [
        '--host',
        host,
      ]);
      setup(['--gateway', 'https://gw.example/ssh/', ...given], { HOME: home }, () => {});
      const file = `${home}/.config/postern/ssh_config`;
      for (const [host, port] of Object.entries(ports)) assert.equal(portOf(file, host), port, host);
      assert.match(readFileSync(file, 'utf8'), /ProxyCommand .* connect -- '%h' '%p'/);
    });
  });
}

describe('postern setup', () => {
  for (const host of [
    'db:0',
    'db:65536',
    'db:',
    'db:x',
    'db:22:23',
    '2001:db8::1',
    '[box]:22',
    'a b:22',
    ':22',
    '!db:22',
  ])
    it(`refuses ${JSON.stringify(host)}`, () => {
      assert.throws(
        () =>
          setup(
            ['--gateway', 'https://gw.example/', '--host', host],
            { HOME: scratch.path('none') },
            () => {},
          ),
        { code: 'USAGE' },
      );
    });
});
