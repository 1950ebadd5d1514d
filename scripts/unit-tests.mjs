import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';

/** Tests in these folders run real programs, as root where they can. */
const programFolders = ['test/e2e/', 'test/hostile/'];

/**
 * The unit tests: files outside `programFolders` that start no process, that is, do not import `node:child_process`,
 * neither themselves nor through a helper. The paths are relative to `folder`, the root of the project.
 */
export function unitTests(folder) {
  const importsOf = importReader(folder);
  return readdirSync(join(folder, 'test'), { recursive: true, encoding: 'utf8' })
    .map((name) => join('test', name))
    .filter((file) => file.endsWith('.test.ts') && !programFolders.some((start) => file.startsWith(start)))
    .filter((file) => !startsProcesses(file, importsOf))
    .toSorted();
}

/** Only the code of tests, scripts and benches is followed: a unit test can import code that starts a program. */
function startsProcesses(file, importsOf, visited = new Set()) {
  if (visited.has(file)) return false;
  visited.add(file);
  return importsOf(file).some(
    (name) =>
      name === 'node:child_process' ||
      (/^(?:test|scripts|bench)\/.*\.(?:mjs|ts)$/.test(name) && startsProcesses(name, importsOf, visited)),
  );
}

/** Reads the imports of each file once: packages by name, files relative to `folder`, no imports of types. */
function importReader(folder) {
  const known = new Map();
  return (file) => {
    const imports = known.get(file) ?? readImports(folder, file);
    known.set(file, imports);
    return imports;
  };
}

function readImports(folder, file) {
  const text = readFileSync(join(folder, file), 'utf8');
  const imports = text.matchAll(
    /^(?:import|export)(?! type)(?: [^;'"]*? from)? '([^']+)'|\bimport\('([^']+)'\)/gm,
  );
  return [...imports]
    .map(([, statically, lazily]) => statically ?? lazily)
    .map((name) => (name.startsWith('.') ? relative(folder, resolve(folder, dirname(file), name)) : name));
}
