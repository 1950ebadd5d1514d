import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { help } from '../client/commands/help.ts';
import { carrierField } from '../client/carrier/http-carrier.ts';
import { resumeField } from '../client/entry/resumable.ts';
import { endReasons } from '../protocol/end-reason.ts';
import { tunnelErrors } from '../protocol/errors.ts';
import { resumeCauses } from '../protocol/resume-cause.ts';
import type { ResumeCause } from '../protocol/resume-cause.ts';
import { relayCloseCodes } from '../protocol/relay-frame.ts';
import { recordTypes } from '../protocol/http-carrier-record.ts';
import { relayV1 } from '../protocol/relay-v1.ts';
import { relayV4Tags } from '../protocol/relay-v4.ts';
import { relaySteps } from '../protocol/relay.ts';
import { configJsonSchema } from '../server/config/schema.ts';
import { abortedCloseCode } from '../stream/relay/relay-peer.ts';
import { run } from './e2e/support/process.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

const pages: readonly string[] = [
  'README.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
  'SECURITY.md',
  ...readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => join('docs', name)),
];

function read(page: string): string {
  return readFileSync(join(root, page), 'utf8');
}

/** The cells of a page's table rows, under one heading or anywhere. */
function rowsOf(page: string, heading?: string): readonly (readonly string[])[] {
  const text = heading === undefined ? read(page) : sectionOf(page, heading);
  return text
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .map((line) =>
      line
        .split(/(?<!\\)\|/)
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

function sectionOf(page: string, heading: string): string {
  const [, rest = ''] = read(page).split(`\n## ${heading}\n`);
  return rest.split('\n## ')[0]!;
}

describe('docs/errors.md', () => {
  const rows = rowsOf('docs/errors.md', 'Codes').slice(2);

  it('has the codes of protocol/errors.ts, no other, in the same order', () => {
    assert.deepEqual(
      rows.map(([code]) => code),
      Object.keys(tunnelErrors).map((code) => `\`${code}\``),
    );
  });

  for (const [code, facts] of Object.entries(tunnelErrors)) {
    it(`says of ${code} what protocol/errors.ts says, what it means and what to do`, () => {
      const [, status, retry, exit, layer, proxyStatus, meaning, advice] =
        rows.find(([name]) => name === `\`${code}\``) ?? [];
      assert.deepEqual(
        [status, retry, exit, layer, proxyStatus],
        [
          facts.status === 0 ? '–' : String(facts.status),
          facts.retry ? 'yes' : 'no',
          String(facts.exit),
          facts.layer,
          'proxyStatus' in facts ? `\`${facts.proxyStatus}\`` : '–',
        ],
      );
      assert.ok(meaning && advice);
    });
  }
});

/** A part of a JSON Schema, as far as the page is about it. */
interface Schema {
  readonly type?: string;
  readonly default?: unknown;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema | false;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly reload?: boolean | 'partly';
}

/** Every key below `schema`, with its default and its reload as the page has to give them. */
function keysBelow(schema: Schema, prefix: string, inherited: Schema['reload'] = false): readonly KeyRow[] {
  const named = Object.entries(schema.properties ?? {}).flatMap(([name, each]) => {
    const key = `${prefix}${name}`;
    const given = schema.required?.includes(name) ? 'required' : defaultOf(each);
    const { reload = inherited } = each;
    const inside = each.items
      ? keysBelow(each.items, `${key}[].`, reload)
      : keysBelow(each, `${key}.`, reload);
    const isMixed = each.properties && inside.some((row) => row.reload !== wordOf(reload));
    return [{ key, given, reload: isMixed ? '' : wordOf(reload) }, ...inside];
  });
  const free = schema.additionalProperties
    ? keysBelow(schema.additionalProperties, `${prefix}NAME.`, inherited)
    : [];
  return [...named, ...free];
}

interface KeyRow {
  readonly key: string;
  readonly given: string;
  readonly reload: string;
}

function wordOf(reload: NonNullable<Schema['reload']>): string {
  return reload === 'partly' ? reload : reload ? 'yes' : 'no';
}

function defaultOf(schema: Schema): string {
  return schema.default === undefined ? '–' : `\`${JSON.stringify(schema.default)}\``;
}

describe('docs/configuration.md', () => {
  const rows = rowsOf('docs/configuration.md', 'Every key').slice(2);
  const keys = keysBelow(configJsonSchema(), '');

  it('has every key of postern.yaml with its default and its reload, no other, in the same order', () => {
    assert.deepEqual(
      rows.map(([key, given, reload]) => `${key} ${given} ${reload}`),
      keys.map(({ key, given, reload }) => `\`${key}\` ${given} ${reload}`),
    );
  });
});

describe('docs/entry/relay.md', () => {
  const page = 'docs/entry/relay.md';
  const text = read(page);

  /** The text messages of the page: examples, and the first cells of the table. */
  const messages = [
    ...[...text.matchAll(/^(?:opened|joined) .*$/gm)].map(([message]) => message),
    ...rowsOf(page, 'Messages')
      .map(([cell]) => /^`([a-z]+(?: [a-z]+=\d+)*)`$/.exec(cell!)?.[1])
      .filter((message) => message !== undefined),
  ];

  it('draws the states as protocol/relay.ts has them', () => {
    const steps = Object.entries(relaySteps).flatMap(([state, events]) =>
      Object.entries(events).map(([event, next]) => `  ${state} --> ${next}: ${event}\n`),
    );
    const drawn = `stateDiagram-v2\n  [*] --> detached\n${steps.join('')}  closed --> [*]\n`;
    assert.equal(/```mermaid\n([^`]*)```/.exec(text)?.[1], drawn);
  });

  it('explains every event at both ends', () => {
    const events = new Set(Object.values(relaySteps).flatMap((each) => Object.keys(each)));
    const rows = rowsOf(page, 'States').slice(2);
    assert.deepEqual(
      new Set(rows.map(([event]) => event)),
      new Set([...events].map((event) => `\`${event}\``)),
    );
    assert.ok(rows.every(([, gateway, client]) => gateway && client));
  });

  it('has examples that are messages of the protocol, each word of it', () => {
    const words = new Set(messages.map((message) => message.split(' ')[0]));
    assert.deepEqual(words, new Set(['opened', 'joined', 'ack', 'end', 'ping', 'pong', 'move']));
    for (const message of messages) {
      const frame = relayV1.decode(Buffer.from(message), false);
      assert.ok(frame, message);
      assert.equal(relayV1.encode(frame), message);
    }
  });

  it('has a request to come back whose MAC is right', () => {
    const opened = relayV1.decode(Buffer.from(messages[0]!), false);
    assert.ok(opened?.kind === 'opened' && opened.secret !== undefined);
    const { sid, secret } = opened;
    const [, asked, received] = /v4\/reconnect\?sid=([^&]+)&ack=(\d+) /.exec(text) ?? [];
    const [, field, count, cause] = /^Postern-Rejoin: (count=(\d+), mac=.+, cause=(\w+))$/m.exec(text) ?? [];
    assert.equal(asked, sid);
    const signed = { sid, secret, received: Number(received), count: Number(count) };
    assert.equal(field, resumeField({ ...signed, cause: cause as ResumeCause }));
  });

  it('has the causes, close codes and tags of the program', () => {
    const causes = rowsOf(page, 'Coming back').map(([cell]) => /^`([a-z]+)`$/.exec(cell!)?.[1]);
    assert.deepEqual(
      causes.filter((cause) => cause !== undefined),
      Object.keys(resumeCauses),
    );
    const closes = rowsOf(page, 'The end').slice(2);
    assert.deepEqual(
      closes.map(([code]) => Number(code)),
      Object.values(relayCloseCodes),
    );
    assert.ok(sectionOf(page, 'The end').includes(`Close ${abortedCloseCode}.`));
    const tags = rowsOf(page, 'Relay v4').map(([tag, name]) => [name, Number(tag)]);
    assert.deepEqual(Object.fromEntries(tags.slice(2, -1)), relayV4Tags);
  });
});

describe('docs/entry/http.md', () => {
  const page = 'docs/entry/http.md';

  it('has the records of protocol/http-carrier-record.ts', () => {
    const rows = rowsOf(page, 'Records').slice(2);
    const told = rows.map(([type, name]) => [name!.replaceAll('`', ''), Number(type)]);
    assert.deepEqual(Object.fromEntries(told), recordTypes);
  });

  it('has a signature that is right', () => {
    const text = read(page);
    const [, id, number, mac] = /^Postern-Carrier: id=(\S+), n=(\d+), mac=(\S+)$/m.exec(text)!;
    const [, secret] = /with the secret `([\w-]+)`/.exec(text)!;
    const signed = carrierField({ id: id!, secret: secret!, direction: 'up', number: Number(number) });
    assert.equal(signed, `id=${id}, n=${number}, mac=${mac}`);
  });
});

describe('docs/protocol.md', () => {
  it('has the close codes and words by which the gateway ends a tunnel', () => {
    const rows = rowsOf('docs/protocol.md', 'End and abort').slice(2);
    const told = Object.entries(endReasons).map(([word, { closeCode }]) => `${closeCode} \`${word}\``);
    assert.deepEqual(rows.map(([code, word]) => `${code} ${word}`).toSorted(), told.toSorted());
  });
});

describe('the pages', () => {
  for (const page of pages) {
    it(`${page} has links that lead somewhere`, () => {
      // What stands in code is no link.
      const text = read(page)
        .replaceAll(/^ *```[^]*?^ *```/gm, '')
        .replaceAll(/`[^`\n]*`/g, '`');
      const links = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link!);
      for (const link of links.filter((each) => !/^[a-z]+:/.test(each))) {
        const [path = '', anchor] = link.split('#');
        const file = path === '' ? page : relative(root, resolve(root, dirname(page), path));
        assert.ok(!file.startsWith('..') && existsSync(join(root, file)), link);
        if (anchor !== undefined) assert.ok(anchorsOf(file).includes(anchor), link);
      }
    });
  }

  it('README leads to every page, directly or by a folder', () => {
    const readme = read('README.md');
    for (const page of pages.filter((each) => each !== 'README.md')) {
      assert.ok(page.startsWith('docs/decisions/') || readme.includes(`(${page}`), page);
    }
  });
});

describe('docs/decisions', () => {
  const index = read('docs/decisions/README.md');
  for (const page of pages.filter((each) => /^docs\/decisions\/\d/.test(each))) {
    it(`${page} has a status and a date, and is in the index`, () => {
      const [title = '', ...rest] = read(page).split('\n');
      assert.match(
        rest.join('\n'),
        /^\n- Status: (?:accepted|superseded by \d+)\b.*\n- Date: 20\d\d-\d\d-\d\d\n\n/,
      );
      assert.ok(index.includes(`[${title.replace('# ', '')}](${page.split('/').at(-1)!})`), title);
    });
  }
});

/** The anchors of a page's headings, as the usual web views make them. */
function anchorsOf(page: string): readonly string[] {
  return [...read(page).matchAll(/^#+ (.+)$/gm)].map(([, title]) =>
    title!
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

describe('the commands', () => {
  const everything = pages.map(read).join('\n');

  it('README and CONTRIBUTING have npm commands that package.json has', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
    const named = [
      ...`${read('README.md')}${read('CONTRIBUTING.md')}`.matchAll(/\bnpm (?:run ([\w:]+)|(test|start))/g),
    ];
    assert.ok(named.length > 2);
    for (const [command, name, word] of named) {
      const script = scripts[name ?? word!];
      assert.ok(script, command);
      const file = /scripts\/\S+/.exec(script)?.[0];
      assert.ok(file && existsSync(join(root, file)), script);
    }
  });

  it('every option and variable of postern --help is explained', () => {
    for (const text of Object.values(help)) assertMentions(everything, text);
  });

  it('every option and command of postern-gateway --help is explained', async () => {
    const { stdout } = await run([process.execPath, join(root, 'server/main.ts'), '--help']);
    assertMentions(everything, stdout.toString());
    const commands = [...stdout.toString().matchAll(/^ {2}([a-z][a-z-]+)(?= |$)/gm)].map(([, name]) => name!);
    assert.ok(commands.length > 3);
    const rows = rowsOf('docs/configuration.md', 'Commands');
    assert.deepEqual(
      rows.slice(2).map(([command]) => /^`postern-gateway ([a-z-]+)/.exec(command!)?.[1]),
      commands,
    );
  });
});

function assertMentions(everything: string, text: string): void {
  const options = text.match(/(?<![\w-])--[a-z][a-z-]+/g) ?? [];
  const variables = text.match(/\b(?:POSTERN_[A-Z_]+|[A-Z]+_PROXY)\b/g) ?? [];
  for (const word of [...options, ...variables]) {
    if (word.startsWith('POSTERN__')) continue;
    assert.match(everything, new RegExp(`(?<![\\w-])${word}(?![\\w-])`), word);
  }
}
