import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const tops = ['base', 'protocol', 'stream', 'diagnostics', 'server', 'client'] as const;

interface Module {
  readonly file: string;
  readonly text: string;
  /** The text without its comments. */
  readonly code: string;
  /** Files of this project, relative to its root, and names of packages. */
  readonly imports: readonly string[];
}

const modules: readonly Module[] = tops.flatMap((top) =>
  readdirSync(join(root, top), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => readModule(join(top, name))),
);

function readModule(file: string): Module {
  const text = readFileSync(join(root, file), 'utf8');
  const found = [
    ...text.matchAll(
      /(?:^|\n)(?:import|export)\b[^;'"]*?from '([^']+)'|\bimport\('([^']+)'\)|(?:^|\n)import '([^']+)'/g,
    ),
  ];
  const imports = found
    .map(([, from, lazily, bare]) => from ?? lazily ?? bare!)
    .map((name) => {
      return name.startsWith('.') ? relative(root, resolve(root, dirname(file), name)) : name;
    });
  const code = text.replaceAll(/\/\*[^]*?\*\/|\/\/.*/g, '');
  return { file, text, code, imports };
}

function topOf(file: string): string {
  return file.split('/')[0]!;
}

function isOurs(name: string): boolean {
  return (tops as readonly string[]).includes(topOf(name)) && name.endsWith('.ts');
}

/** What each part may import besides itself. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  base: [],
  protocol: ['base'],
  stream: ['base', 'protocol'],
  diagnostics: ['base', 'protocol'],
  server: ['base', 'protocol', 'stream', 'diagnostics'],
  client: ['base', 'protocol', 'stream', 'diagnostics'],
};

describe('the architecture', () => {
  it('has modules to check', () => assert.ok(modules.length > 50, `${modules.length}`));

  for (const { file, imports } of modules) {
    it(`${file} imports what its part may`, () => {
      const allowed = [topOf(file), ...mayImport[topOf(file)]!];
      for (const name of imports.filter(isOurs))
        assert.ok(allowed.includes(topOf(name)), `${file} → ${name}`);
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
    'server/gateway.ts': ['server/plugin.ts', 'server/commands/serve.ts', 'server/commands/serve-worker.ts'],
    'server/pipeline.ts': ['server/gateway.ts'],
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
    const sandbox = ['pac-resolver', 'quickjs-wasi'];
    for (const { file, imports } of modules.filter((module) => topOf(module.file) === 'client')) {
      const allowed = file === 'client/egress/pac/pac-worker.ts' ? sandbox : ['ws'];
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
