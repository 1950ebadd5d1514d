import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { help } from '../../../client/commands/help.ts';
import type { HelpTopic } from '../../../client/commands/help.ts';
import { commands } from '../../../server/commands/registry.ts';
import { root } from '../../support/source-tree.ts';
import { startGateway } from '../support/gateway.ts';
import type { Gateway } from '../support/gateway.ts';
import { clientBundle, needs } from '../support/needs.ts';
import { own } from '../support/process.ts';
import type { Environment } from '../support/process.ts';
import { openScratch } from '../support/scratch.ts';

/*
 * Every command of both programs, from their registries: a new command is tried as soon as it exists, by its help and its
 * options, and the tests ask for a row of its own.
 */

const scratch = openScratch();
let gateway: Gateway;

type ProgramName = 'postern' | 'postern-gateway';

/** Runs one command, with the gateway below as its configuration. */
interface Program {
  readonly name: ProgramName;
  readonly main: string;
  readonly commands: readonly string[];
  /** Arguments with which a command writes something to stdout, or null where no arguments do. */
  readonly rows: () => Readonly<Record<string, readonly string[] | null>>;
  readonly env: () => Environment;
}

const programs: readonly Program[] = [
  {
    name: 'postern',
    main: join(root, clientBundle),
    commands: Object.keys(help).filter((name) => name !== ''),
    rows: () => ({
      connect: ['--help'],
      // Writes on stderr.
      login: null,
      logout: null,
      status: [],
      hosts: [],
      ticket: ['box'],
      // Goes on until a signal ends it: see below.
      listen: null,
      setup: ['--dry-run', '--gateway', gatewayUrl()],
      doctor: ['--json'],
    }),
    env: () => ({ POSTERN_GATEWAY: gatewayUrl(), POSTERN_TOKEN_FILE: gateway.tokenFile }),
  },
  {
    name: 'postern-gateway',
    main: join(root, 'server/main.ts'),
    commands: Object.keys(commands),
    rows: () => {
      const config = ['--config', gateway.configFile];
      const claims = scratch.path('claims.json');
      writeFileSync(claims, '{"sub":"tester","groups":["dev"]}');
      return {
        // Goes on until a signal ends it: see serve.test.ts.
        serve: null,
        check: config,
        explain: [...config, '--as', claims, 'box'],
        token: [...config, '--subject', 'tester'],
        user: ['list', '--json', ...config],
        sessions: config,
        kill: ['--subject', 'stranger', ...config],
        'print-config': ['nginx', ...config],
        doctor: ['--json', ...config, gatewayUrl()],
        'verify-audit': [gateway.auditFile],
      };
    },
    env: () => ({}),
  },
];

function gatewayUrl(): string {
  return `http://127.0.0.1:${gateway.port}/ssh/`;
}

interface Ended {
  readonly code: number | NodeJS.Signals;
  readonly stdout: string;
  readonly stderr: string;
}

interface Surroundings {
  /** What is done with the command before and around it; `"$@"` is the command. */
  readonly shell?: string;
  readonly env?: Environment;
  readonly cwd?: string;
  /** The reader of stdout leaves before the first byte. */
  readonly leaves?: boolean;
}

/** Runs a command of a program to its end, in 20 s at most. */
async function run(
  program: Program,
  args: readonly string[],
  surroundings: Surroundings = {},
): Promise<Ended> {
  const { shell = 'exec "$@"', env, cwd = scratch.directory, leaves = false } = surroundings;
  const child = own(
    spawn('sh', ['-c', shell, 'sh', process.execPath, program.main, ...args], {
      cwd,
      env: {
        PATH: process.env['PATH'],
        HOME: scratch.path('home'),
        NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'],
        NODE_OPTIONS: '--disable-warning=ExperimentalWarning',
        POSTERN_NO_INPUT: '1',
        ...program.env(),
        ...env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 60_000,
      killSignal: 'SIGKILL',
    }),
  );
  let [stdout, stderr] = ['', ''];
  if (leaves) child.stdout.destroy();
  else child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const code = await new Promise<Ended['code']>((resolve) =>
    child.once('close', (exit, signal) => resolve(exit ?? signal!)),
  );
  return { code, stdout, stderr };
}

/** Nothing that a program says is a stack trace, or puts the blame on the program. */
function assertPlain({ code, stderr }: Ended): void {
  assert.equal(typeof code, 'number', `${code}: ${stderr}`);
  assert.doesNotMatch(stderr, /^\s+at /m);
  assert.doesNotMatch(stderr, /\(INTERNAL\)|is a bug|uv_cwd|Unhandled|node:internal/);
}

const exitOfFullDisk: Readonly<Record<ProgramName, number>> = { postern: 74, 'postern-gateway': 1 };

describe('every command', { ...needs(clientBundle, 'sh'), concurrency: 3 }, () => {
  before(async () => {
    gateway = await startGateway(scratch, {
      targets: { box: '127.0.0.1:9' },
      settings: { publicUrl: 'http://127.0.0.1:1/ssh/' },
    });
  });

  for (const program of programs) {
    it(`of ${program.name} has a row here`, () =>
      assert.deepEqual(Object.keys(program.rows()).toSorted(), program.commands.toSorted()));

    for (const command of program.commands) {
      it(`${program.name} ${command}: the reader of its output leaves, or the disk is full`, async () => {
        const row = program.rows()[command];
        // The gateway has one help for all.
        const hasHelp = program.name === 'postern' || command === program.commands[0];
        for (const args of [...(hasHelp ? [['--help']] : []), ...(row ? [row] : [])]) {
          const [usual, left, full] = await Promise.all([
            run(program, [command, ...args]),
            run(program, [command, ...args], { leaves: true }),
            run(program, [command, ...args], { shell: 'exec "$@" >/dev/full' }),
          ]);
          assert.notEqual(usual.stdout, '', usual.stderr);
          assert.deepEqual([left.code, withoutTimes(left.stderr)], [usual.code, withoutTimes(usual.stderr)]);
          assertPlain(full);
          assert.equal(full.code, usual.code || exitOfFullDisk[program.name]);
          assert.match(full.stderr, /: cannot write the output: ENOSPC: no space left on device/);
        }
      });

      it(`${program.name} ${command}: refuses an option it does not know, with the nearest`, async () => {
        const options = optionsIn(program, command, await helpOf(program));
        const stranger = await run(program, [command, '--zzqx']);
        assertPlain(stranger);
        assert.equal(stranger.code, 2, stranger.stderr);
        if (options.length === 0) return;
        const misspelt = await run(program, [command, `${options[0]!.slice(0, -2)}${swapped(options[0]!)}`]);
        assert.equal(misspelt.code, 2);
        assert.ok(
          misspelt.stderr.includes(`did you mean ${options[0]}?`) ||
            misspelt.stderr.includes(`did you mean '${options[0]}'?`),
          misspelt.stderr,
        );
      });

      it(`${program.name} ${command}: its current directory is removed`, async () => {
        const row = command === 'setup' ? ['--dry-run', '--ca-file', 'ca.pem'] : program.rows()[command];
        const relative = { POSTERN_TOKEN_FILE: 'token', POSTERN_CA_FILE: 'ca.pem' };
        // Each argument that is a path is a relative one.
        const args = [command, ...(row ?? []).map((each) => (each.startsWith('/') ? each.slice(1) : each))];
        const cwd = mkdtempSync(join(tmpdir(), 'postern-removed-'));
        const shell = `rmdir "$PWD" && exec "$@"`;
        const ended = await run(program, args, { cwd, shell, env: relative }).finally(() => {
          try {
            rmdirSync(cwd);
          } catch {
            // As it should be.
          }
        });
        assertPlain(ended);
        if (program.name === 'postern' && command !== 'connect') {
          assert.equal(ended.code, 78, ended.stderr);
          assert.match(ended.stderr, /current directory has been removed \(CONFIG_INVALID\)/);
        } else if (command !== 'connect') assert.ok([1, 2].includes(Number(ended.code)), ended.stderr);
      });
    }

    it(`${program.name}: says nothing where stderr is full`, async () => {
      const { code } = await run(program, ['no-such-command'], { shell: 'exec "$@" 2>/dev/full' });
      assert.equal(code, 2);
    });

    it(`${program.name}: names the command that was meant`, async () => {
      const command = program.commands.at(-1)!;
      const { code, stderr } = await run(program, [`${command.slice(0, -2)}${swapped(command)}`]);
      assert.equal(code, 2);
      assert.ok(stderr.includes(`did you mean ${command}?`), stderr);
    });
  }
});

/** The last two letters, the other way round, or with one more where they are the same. */
function swapped(word: string): string {
  const [one, other] = word.slice(-2);
  return one === other ? `${one}${one}x` : `${other}${one}`;
}

let gatewayHelp: Promise<string> | undefined;

async function helpOf(program: Program): Promise<string> {
  if (program.name === 'postern') return '';
  return (gatewayHelp ??= run(program, ['--help']).then(({ stdout }) => stdout));
}

/** The options of a command, from its help; for the gateway, whose help is one text, from the lines of the command. */
function optionsIn({ name }: Program, command: string, ofGateway: string): readonly string[] {
  const lines = (name === 'postern' ? help[command as HelpTopic] : ofGateway).split('\n');
  const from = name === 'postern' ? 0 : lines.findIndex((line) => line.startsWith(`  ${command}`));
  const rest = lines.slice(from + 1);
  const end = name === 'postern' ? rest.length : rest.findIndex((line) => /^ {0,2}\S/.test(line));
  const found = [lines[from]!, ...rest.slice(0, end)].join('\n').match(/(?<![\w-])--[a-z][a-z-]+/g) ?? [];
  const usable = found.filter((each) => !['--help', '--version'].includes(each));
  // The actions of `user` have options of their own.
  return command === 'user' ? [] : usable;
}

/** Times, and what takes them, differ from run to run. */
function withoutTimes(text: string): string {
  return text.replaceAll(/\d+/g, '0');
}
