import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import {
  actorsHaveNames,
  filesAreOfOneSize,
  foldersAreNarrow,
  importsGoDown,
  internalsHaveOneRoom,
  namesAreCurrent,
  retiredWords,
  helpersHaveOneHome,
  topsImportDown,
  typeNamesAreUnique,
} from './support/architecture-rules.ts';
import type { Floors, Rule } from './support/architecture-rules.ts';
import { parseSource, readSourceTree, root, tops } from './support/source-tree.ts';

const modules = readSourceTree();

function topOf(file: string): string {
  return file.split('/')[0]!;
}

function isOurs(name: string): boolean {
  return (tops as readonly string[]).includes(topOf(name)) && name.endsWith('.ts');
}

/** The rooms of both programs, and the files at their top, from the ground up. */
const floors: Floors = {
  server: [
    ['net', 'runtime'],
    ['config', 'store'],
    ['listener', 'auth', 'doctor'],
    ['policy'],
    ['dial'],
    ['session'],
    ['resume', 'telemetry', 'admin'],
    ['pipeline.ts', 'entry', 'audit'],
    ['http'],
    ['cluster', 'web'],
    ['login'],
    ['gateway'],
    ['gateway.ts'],
    ['plugin.ts'],
    ['commands'],
    ['main.ts'],
  ],
  client: [
    ['os'],
    ['errors'],
    ['http'],
    ['egress'],
    ['oauth'],
    ['credentials'],
    ['carrier', 'resume', 'login'],
    ['entry'],
    ['settings.ts'],
    ['connect'],
    ['doctor', 'local-proxy'],
    ['commands'],
    ['main.ts'],
  ],
};

const retired = retiredWords(readFileSync(join(root, 'docs/glossary.md'), 'utf8'));

/** Each rule, and a file that breaks it: a check that cannot fail is none. */
const rules: Readonly<
  Record<
    string,
    { readonly rule: Rule; readonly planted: Readonly<Record<string, string>>; readonly says: RegExp }
  >
> = {
  'the tops import only what is below them': {
    rule: topsImportDown,
    planted: { 'stream/planted.ts': "import { a } from '../server/main.ts';" },
    says: /^stream\/planted\.ts → server\/main\.ts$/,
  },
  'folders are narrow, and nothing is loose at the top': {
    rule: foldersAreNarrow,
    planted: Object.fromEntries(
      Array.from({ length: 16 }, (_, index) => [`server/planted/file-${index}.ts`, 'export {};']),
    ),
    says: /^server\/planted: 16 files$/,
  },
  'no identifier has a retired word': {
    rule: namesAreCurrent(retired),
    planted: { 'server/auth/planted.ts': 'export function onTrouble(goOn: string): string { return goOn; }' },
    says: /^server\/auth\/planted\.ts: (?:onTrouble|goOn)$/,
  },
  'an exported type name exists once': {
    rule: typeNamesAreUnique,
    planted: { 'server/auth/planted.ts': 'export interface Target {}' },
    says: /^Target: protocol\/target\.ts, server\/auth\/planted\.ts$/,
  },
  'rooms import downwards only': {
    rule: importsGoDown(floors),
    planted: { 'server/store/planted.ts': "import type { Offer } from '../login/login.ts';" },
    says: /^server\/store\/planted\.ts → server\/login\/login\.ts$/,
  },
  'files are neither long nor tiny': {
    rule: filesAreOfOneSize,
    planted: {
      'server/auth/planted.ts': 'const a = 1;\n'.repeat(301),
      'client/os/planted.ts': 'export const a = 1;',
    },
    says: /^(?:server\/auth\/planted\.ts: 301|client\/os\/planted\.ts: 1) lines$/,
  },
  "Node's internals have one room": {
    rule: internalsHaveOneRoom,
    planted: { 'server/dial/planted.ts': 'socket._handle.readStop();' },
    says: /^server\/dial\/planted\.ts: \._handle$/,
  },
  'deadlines, abort listeners, constant-time comparisons, options and directories have one home each': {
    rule: helpersHaveOneHome,
    planted: {
      'server/dial/planted.ts': "signal.addEventListener('abort', stop);",
      'client/os/planted.ts': 'timingSafeEqual(a, b);',
      'server/web/planted.ts': 'log.info({ client: request.ip });',
      'server/commands/planted.ts': "import { parseArgs } from 'node:util';",
      'server/net/planted.ts': 'mkdirSync(a, { recursive: true });',
    },
    says: /^(?:server\/dial\/planted\.ts: see base\/deadline|client\/os\/planted\.ts: see base\/constant-time|server\/commands\/planted\.ts: see base\/parse-args|server\/net\/planted\.ts: see client\/os\/files|server\/web\/planted\.ts: see server\/http\/client-address)\.ts$/,
  },
  'comments name their actors': {
    rule: actorsHaveNames,
    planted: { 'server/dial/planted.ts': '// Nobody reads this.\nexport const a = 1;' },
    says: /^server\/dial\/planted\.ts: Nobody$/,
  },
};

describe('the architecture', () => {
  it('has modules to check', () => assert.ok(modules.length > 50, `${modules.length}`));

  for (const [name, { rule, planted, says }] of Object.entries(rules)) {
    it(name, () => assert.deepEqual(rule(modules), []));

    it(`${name}: the check can fail`, () => {
      const before = new Set(rule(modules));
      const files = Object.entries(planted).map(([file, text]) => parseSource(file, text));
      const found = rule([...modules, ...files]).filter((line) => !before.has(line));
      assert.ok(found.length > 0);
      for (const line of found) assert.match(line, says);
    });
  }

  for (const { file, imports, text } of modules.filter((module) => topOf(module.file) === 'protocol')) {
    it(`${file} is pure`, () => {
      for (const name of imports) assert.ok(isOurs(name) || name === 'node:buffer', name);
      assert.doesNotMatch(
        text,
        /\b(?:Date\.now|new Date\(|setTimeout|setInterval|setImmediate|Math\.random|process\.|performance\.)/,
      );
    });
  }

  const interfaces: Readonly<Record<string, readonly string[]>> = {
    'server/gateway.ts': [
      'server/plugin.ts',
      'server/commands/gateway-app.ts',
      'server/commands/gateway-process.ts',
      'server/commands/serve-worker.ts',
    ],
    'server/pipeline.ts': ['server/gateway.ts', 'server/gateway/settings.ts'],
    'server/main.ts': [],
    'client/main.ts': [],
  };
  for (const [file, importers] of Object.entries(interfaces)) {
    it(`${file} is imported by ${importers.join(', ') || 'nobody'} only`, () => {
      const found = modules.filter(({ imports }) => imports.includes(file)).map((module) => module.file);
      assert.deepEqual(found.toSorted(), [...importers].toSorted());
    });
  }

  it('keeps the packages of the server out of the client, but for ws', () => {
    // What runs PAC files is a file of its own, also in what is shipped.
    const sandbox = ['quickjs-wasi', 'ipaddr.js'];
    const sandboxed = ['client/egress/pac/pac-worker.ts', 'client/egress/pac/pac-host-functions.ts'];
    for (const { file, imports } of modules.filter((module) => topOf(module.file) === 'client')) {
      const allowed = sandboxed.includes(file) ? sandbox : ['ws'];
      for (const name of imports)
        assert.ok(isOurs(name) || name.startsWith('node:') || allowed.includes(name), `${file} → ${name}`);
    }
  });

  it('reads process.env in the entry points only', () => {
    const readers = modules
      .filter(({ code }) => /process\.env\b|= process;/.test(code))
      .map(({ file }) => file);
    const allowed = ['server/main.ts', 'client/main.ts'];
    assert.deepEqual(
      readers.filter((file) => !allowed.includes(file)),
      [],
    );
  });

  it('has no default exports and no barrels', () => {
    for (const { file, text } of modules) {
      assert.doesNotMatch(text, /export default|export \* from|export \{[^}]*\} from/, file);
    }
  });

  it('has no cycles', () => {
    const byFile = new Map(modules.map((module) => [module.file, module]));
    const done = new Set<string>();
    const visit = (file: string, path: readonly string[]): void => {
      assert.ok(!path.includes(file), [...path, file].join(' → '));
      if (done.has(file)) return;
      for (const name of byFile.get(file)?.imports.filter(isOurs) ?? []) visit(name, [...path, file]);
      done.add(file);
    };
    for (const { file } of modules) visit(file, []);
  });
});
