import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { checkPattern, hostBlock, includeLine } from '../../../client/commands/ssh-snippet.ts';
import { withInclude, withoutInclude } from '../../../client/commands/ssh-config.ts';
import { authority } from '../certificates.ts';
import { temporaryDirectory } from '../support.ts';

const main = join(import.meta.dirname, '../../../client/main.ts');
const full = ['--gateway', 'https://gw.example/ssh', '--host', '*.corp.example', '--host', 'box'];

/** Runs `postern setup` in a home of its own. */
function setup(home: string, ...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [main, 'setup', ...args], { env: { HOME: home }, encoding: 'utf8' });
}

function homeWithConfig(t: TestContext, content: string | Buffer): string {
  const home = temporaryDirectory(t);
  mkdirSync(join(home, '.ssh'), { mode: 0o700 });
  writeFileSync(join(home, '.ssh', 'config'), content, { mode: 0o600 });
  return home;
}

const userConfigs: readonly [what: string, content: Buffer][] = [
  ['an empty file', Buffer.alloc(0)],
  ['a file', Buffer.from('Host *\n  User me\n')],
  ['a file without an end of line', Buffer.from('Host *\n  User me')],
  ['a file from Windows', Buffer.from('Host *\r\n  User me\r\n')],
  ['a file that is not UTF-8', Buffer.from([0x23, 0xff, 0xfe, 0x0a, 0x80, 0x0a])],
  ['a file that begins with blank lines', Buffer.from('\n\n# mine\n')],
];

describe('postern setup', () => {
  it('writes its own two files and one line at the top, for this user only', (t) => {
    const home = homeWithConfig(t, 'Host *\n  User me\n');
    const { status, stderr } = setup(home, ...full);
    assert.deepEqual([status, stderr], [0, '']);
    const own = join(home, '.config', 'postern');
    assert.deepEqual(JSON.parse(readFileSync(join(own, 'config.json'), 'utf8')), {
      gateway: 'https://gw.example/ssh/',
      hosts: ['*.corp.example', 'box'],
    });
    assert.equal(
      readFileSync(join(home, '.ssh', 'config'), 'utf8'),
      `Include "${own}/ssh_config"\nHost *\n  User me\n`,
    );
    for (const name of ['config.json', 'ssh_config'])
      assert.equal(statSync(join(own, name)).mode & 0o777, 0o600);
    assert.equal(statSync(own).mode & 0o777, 0o700);
    assert.deepEqual(readdirSync(own).toSorted(), ['config.json', 'ssh_config']);
  });

  for (const [what, content] of userConfigs) {
    it(`gives back ${what} byte for byte, however often it ran`, (t) => {
      const home = homeWithConfig(t, content);
      for (const args of [full, full, [], ['--host', 'other']]) assert.equal(setup(home, ...args).status, 0);
      const changed = readFileSync(join(home, '.ssh', 'config'));
      assert.ok(changed.subarray(-content.length || changed.length).equals(content));
      assert.equal(changed.toString('latin1').match(/^Include /gm)?.length, 1);
      assert.equal(setup(home, '--remove').status, 0);
      assert.ok(readFileSync(join(home, '.ssh', 'config')).equals(content));
      assert.ok(!existsSync(join(home, '.config', 'postern')));
    });
  }

  it('creates a missing ~/.ssh/config and takes it away again', (t) => {
    const home = temporaryDirectory(t);
    assert.equal(setup(home, ...full).status, 0);
    assert.equal(statSync(join(home, '.ssh')).mode & 0o777, 0o700);
    assert.equal(statSync(join(home, '.ssh', 'config')).mode & 0o777, 0o600);
    assert.equal(setup(home).status, 0);
    assert.equal(setup(home, '--remove').status, 0);
    assert.ok(!existsSync(join(home, '.ssh', 'config')));
  });

  it('changes nothing the second time', (t) => {
    const home = homeWithConfig(t, 'Host *\n');
    setup(home, ...full);
    const before = statSync(join(home, '.ssh', 'config'));
    assert.equal(setup(home, ...full).stdout, 'nothing to change\n');
    assert.equal(statSync(join(home, '.ssh', 'config')).ino, before.ino);
  });

  it('changes nothing in a dry run, and says what it would change', (t) => {
    const home = temporaryDirectory(t);
    const { status, stdout } = setup(home, ...full, '--dry-run');
    assert.equal(status, 0);
    assert.match(stdout, /^\+ Include "/m);
    assert.deepEqual(readdirSync(home), []);
    setup(home, ...full);
    assert.match(setup(home, '--remove', '--dry-run').stdout, /^- Include "/m);
    assert.ok(existsSync(join(home, '.ssh', 'config')));
  });

  it('writes through a symbolic link and keeps the mode', (t) => {
    const home = temporaryDirectory(t);
    mkdirSync(join(home, '.ssh'));
    mkdirSync(join(home, 'dotfiles'));
    const real = join(home, 'dotfiles', 'ssh_config');
    writeFileSync(real, '# mine\n');
    chmodSync(real, 0o644);
    symlinkSync('../dotfiles/ssh_config', join(home, '.ssh', 'config'));
    assert.equal(setup(home, ...full).status, 0);
    assert.ok(lstatSync(join(home, '.ssh', 'config')).isSymbolicLink());
    assert.match(readFileSync(real, 'utf8'), /^Include ".*"\n# mine\n$/);
    assert.equal(statSync(real).mode & 0o777, 0o644);
    assert.equal(setup(home, '--remove').status, 0);
    assert.equal(readFileSync(real, 'utf8'), '# mine\n');
  });

  it('writes through a symbolic link that leads to nothing yet', (t) => {
    const home = temporaryDirectory(t);
    mkdirSync(join(home, '.ssh'));
    mkdirSync(join(home, 'dotfiles'));
    symlinkSync('../dotfiles/ssh_config', join(home, '.ssh', 'config'));
    assert.equal(setup(home, ...full).status, 0);
    assert.equal(readlinkSync(join(home, '.ssh', 'config')), '../dotfiles/ssh_config');
    assert.match(readFileSync(join(home, 'dotfiles', 'ssh_config'), 'utf8'), /^Include "/);
  });

  it('keeps what is not said', (t) => {
    const home = temporaryDirectory(t);
    const ca = join(home, 'ca.pem');
    writeFileSync(ca, authority);
    setup(home, ...full);
    assert.equal(setup(home, '--ca-file', ca).status, 0);
    const config = JSON.parse(
      readFileSync(join(home, '.config', 'postern', 'config.json'), 'utf8'),
    ) as object;
    assert.deepEqual(config, {
      gateway: 'https://gw.example/ssh/',
      caFile: ca,
      hosts: ['*.corp.example', 'box'],
      createdSshConfig: true,
    });
  });

  it('leaves ssh alone as long as no hosts are named', (t) => {
    const home = temporaryDirectory(t);
    assert.equal(setup(home, '--gateway', 'https://gw.example/').status, 0);
    assert.ok(!existsSync(join(home, '.ssh')));
  });

  for (const [args, status] of [
    [[], 78],
    [['--gateway', 'http://gw.example/'], 78],
    [['--gateway', 'https://gw.example/', '--host', 'a b'], 2],
    [['--gateway', 'https://gw.example/', '--ca-file', '/does/not/exist'], 78],
    [['--remove', '--host', 'a'], 2],
    [['--frob'], 2],
    [['box'], 2],
  ] as const) {
    it(`refuses ${args.join(' ') || 'no gateway'} and changes nothing`, (t) => {
      const home = temporaryDirectory(t);
      assert.equal(setup(home, ...args).status, status);
      assert.deepEqual(readdirSync(home), []);
    });
  }

  it('says so when ~/.ssh/config is not a file', (t) => {
    const home = temporaryDirectory(t);
    mkdirSync(join(home, '.ssh', 'config'), { recursive: true });
    assert.equal(setup(home, ...full).status, 78);
  });

  it('is understood by ssh', (t) => {
    const home = homeWithConfig(t, 'Host *\n  User me\n');
    setup(home, ...full);
    const { status, stdout, error } = spawnSync(
      'ssh',
      ['-G', '-F', join(home, '.ssh', 'config'), 'a.corp.example'],
      {
        encoding: 'utf8',
      },
    );
    if (error) return t.skip('there is no ssh here');
    assert.equal(status, 0);
    assert.match(stdout, /^proxycommand '.+' '.+main\.ts' connect -- '%h' '%p'$/m);
    assert.match(stdout, /^connecttimeout 45$/m);
    assert.match(stdout, /^user me$/m);
  });
});

describe('checkPattern()', () => {
  for (const pattern of ['box', '*.corp.example', 'db?', '10.0.*', '*']) {
    it(`takes ${pattern}`, () => assert.equal(checkPattern(pattern), pattern));
  }
  for (const pattern of [
    '',
    '-oProxyCommand=x',
    'a b',
    'a\nb',
    '!box',
    'a,b',
    '"a"',
    '%h',
    '$(x)',
    'ä',
    '[::1]',
    '#',
  ]) {
    it(`refuses ${JSON.stringify(pattern)}`, () => {
      assert.throws(() => checkPattern(pattern), { code: 'USAGE' });
    });
  }
});

describe('hostBlock()', () => {
  it('quotes paths for the shell that ssh starts', () => {
    const block = hostBlock(['box'], ["/o'neil/100%/node", '/my $HOME/postern.cjs'], false);
    assert.ok(
      block.includes(`ProxyCommand '/o'\\''neil/100%%/node' '/my $HOME/postern.cjs' connect -- '%h' '%p'\n`),
    );
  });

  it('quotes paths for Windows, where there is no shell', () => {
    const block = hostBlock(['box'], ['C:\\Program Files\\node.exe', 'C:\\postern.cjs'], true);
    assert.ok(
      block.includes('ProxyCommand "C:\\Program Files\\node.exe" "C:\\postern.cjs" connect -- %h %p\n'),
    );
  });

  it('refuses a path that would begin another line', () => {
    assert.throws(() => hostBlock(['box'], ['/a\nb', '/c'], false), { code: 'CONFIG_INVALID' });
  });
});

describe('includeLine()', () => {
  it('quotes a path with spaces', () => assert.equal(includeLine('/a b/c'), 'Include "/a b/c"\n'));
  for (const path of ['/a"b', '/a*b', '/a[b', '/a\nb', '/a%b', '/a$b', '/a\\b']) {
    it(`refuses ${JSON.stringify(path)}`, () => {
      assert.throws(() => includeLine(path), { code: 'CONFIG_INVALID' });
    });
  }
});

describe('withInclude() and withoutInclude()', () => {
  const line = 'Include "/x"\n';
  for (const [before, after] of [
    ['', line],
    ['Host *\n', `${line}Host *\n`],
    [`${line}Host *\n`, `${line}Host *\n`],
    [`# top\nInclude "/other"\n${line}Host *\n`, `# top\nInclude "/other"\n${line}Host *\n`],
    [`Host *\n${line}`, `${line}Host *\n`],
    [`match all\n  User x\n${line}# end`, `${line}match all\n  User x\n# end`],
    [`HostName x\n${line}`, `HostName x\n${line}`],
    [`# ${line}`, `${line}# ${line}`],
  ] as const) {
    it(`make ${JSON.stringify(before)} take effect`, () => {
      const changed = withInclude(Buffer.from(before), line);
      assert.equal(changed.toString(), after);
      assert.ok(withInclude(changed, line).equals(changed));
      assert.equal(
        withoutInclude(changed, line).toString(),
        withoutInclude(Buffer.from(before), line).toString(),
      );
    });
  }
});
