// Runs on whatever Node.js the machine has (20 and newer), before anything is installed.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder of the project. */
export const root = fileURLToPath(new URL('..', import.meta.url));

/** The Node.js that the project pins; `sh` can remember another `node`, so it is always started by its path. */
export const pinnedNode = join(root, 'node_modules/node/bin/node');

/** Installs the npm packages of the lock file, unless they were installed from the same lock file already. */
export function installPackages() {
  const stamp = join(root, 'node_modules/.postern-lock');
  const lock = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex');
  if (existsSync(pinnedNode) && existsSync(stamp) && readFileSync(stamp, 'utf8') === lock) return;
  console.log('postern: installing npm packages (once, about a minute)');
  run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error']);
  if (!existsSync(pinnedNode)) {
    fail(`the package "node" did not bring its binary; run: npm rebuild node`);
  }
  writeFileSync(stamp, lock);
}

/** Builds the client bundle, dist/postern.cjs. */
export function buildClient() {
  run(process.execPath, ['scripts/bundle/build.mjs']);
}

/** Runs a program of the setup; its output is shown only when it fails. */
export function run(program, args, options = {}) {
  const { status, error, stdout, stderr } = spawnSync(program, args, {
    cwd: root,
    encoding: 'utf8',
    ...options,
  });
  if (status === 0) return;
  fail(
    `${program} ${args.join(' ')} failed${error ? `: ${error.message}` : ''}\n${stdout ?? ''}${stderr ?? ''}`,
  );
}

/**
 * Continues as another program on the same terminal, and exits as it exits. Ctrl-C reaches the program by itself; a
 * SIGTERM is passed on. After `limitMs` the program is interrupted.
 */
export function continueWith(program, args, { env = process.env, limitMs } = {}) {
  const child = spawn(program, args, { cwd: root, stdio: 'inherit', env });
  // The test runner waits for ever for a file that does not end; when interrupted, it names the file.
  if (limitMs !== undefined) setTimeout(() => child.kill('SIGINT'), limitMs).unref();
  process.on('SIGINT', () => {});
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  child.on('exit', (code, signal) => process.exit(code ?? (signal === 'SIGINT' ? 130 : 1)));
}

export function fail(message) {
  console.error(`postern: ${message}`);
  process.exit(1);
}
