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
import { setup as runSetup } from '../../../client/commands/setup.ts';
import { withInclude, withoutInclude } from '../../../client/commands/ssh-config.ts';
import { authority } from '../certificates.ts';
import { temporaryDirectory } from '../support.ts';

const full = ['--gateway', 'https://gw.example/ssh', '--host', '*.corp.example', '--host', 'box'];

/** Runs `postern setup` in a home of its own and gives what it printed. */
function setup(home: string, ...args: string[]): string {
  const printed: string[] = [];
  assert.equal(
    runSetup(args, { HOME: home }, (text) => printed.push(text)),
    0,
  );
  return printed.join('');
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
    setup(home, ...full);
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
      for (const args of [full, full, [], ['--host', 'other']]) setup(home, ...args);
      const changed = readFileSync(join(home, '.ssh', 'config'));
      assert.ok(changed.subarray(-content.length || changed.length).equals(content));
      assert.equal(changed.toString('latin1').match(/^Include /gm)?.length, 1);
      setup(home, '--remove');
      assert.ok(readFileSync(join(home, '.ssh', 'config')).equals(content));
      assert.ok(!existsSync(join(home, '.config', 'postern')));
    });
  }

  it('creates a missing ~/.ssh/config and takes it away again', (t) => {
    const home = temporaryDirectory(t);
    setup(home, ...full);
    assert.equal(statSync(join(home, '.ssh')).mode & 0o777, 0o700);
    assert.equal(statSync(join(home, '.ssh', 'config')).mode & 0o777, 0o600);
    setup(home);
    setup(home, '--remove');
    assert.ok(!existsSync(join(home, '.ssh', 'config')));
  });

  it('says what comes next', (t) => {
    assert.match(setup(temporaryDirectory(t), ...full), /\nDone\. Next: postern login, then ssh \S+\n$/);
    const gateway = ['--gateway', 'https://gw.example/ssh/'];
    assert.match(setup(temporaryDirectory(t), ...gateway), /\nDone\. Next: postern login\n$/);
    assert.match(setup(temporaryDirectory(t), ...gateway, '--host', '*.corp'), /, then ssh HOST\n$/);
  });

  it('changes nothing the second time', (t) => {
    const home = homeWithConfig(t, 'Host *\n');
    setup(home, ...full);
    const before = statSync(join(home, '.ssh', 'config'));
    assert.equal(setup(home, ...full), 'nothing to change\n');
    assert.equal(statSync(join(home, '.ssh', 'config')).ino, before.ino);
  });

  it('changes nothing in a dry run, and says what it would change', (t) => {
    const home = temporaryDirectory(t);
    const stdout = setup(home, ...full, '--dry-run');
    assert.match(stdout, /^\+ Include "/m);
    assert.deepEqual(readdirSync(home), []);
    setup(home, ...full);
    assert.match(setup(home, '--remove', '--dry-run'), /^- Include "/m);
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
    setup(home, ...full);
    assert.ok(lstatSync(join(home, '.ssh', 'config')).isSymbolicLink());
    assert.match(readFileSync(real, 'utf8'), /^Include ".*"\n# mine\n$/);
    assert.equal(statSync(real).mode & 0o777, 0o644);
    setup(home, '--remove');
    assert.equal(readFileSync(real, 'utf8'), '# mine\n');
  });

  it('writes through a symbolic link that leads to nothing yet', (t) => {
    const home = temporaryDirectory(t);
    mkdirSync(join(home, '.ssh'));
    mkdirSync(join(home, 'dotfiles'));
    symlinkSync('../dotfiles/ssh_config', join(home, '.ssh', 'config'));
    setup(home, ...full);
    assert.equal(readlinkSync(join(home, '.ssh', 'config')), '../dotfiles/ssh_config');
    assert.match(readFileSync(join(home, 'dotfiles', 'ssh_config'), 'utf8'), /^Include "/);
  });

  it('keeps what is not said', (t) => {
    const home = temporaryDirectory(t);
    const ca = join(home, 'ca.pem');
    writeFileSync(ca, authority);
    setup(home, ...full);
    setup(home, '--ca-file', ca);
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
    setup(home, '--gateway', 'https://gw.example/');
    assert.ok(!existsSync(join(home, '.ssh')));
  });

  for (const [args, code] of [
    [[], 'GATEWAY_UNSET'],
    [['--gateway', 'http://gw.example/'], 'CONFIG_INVALID'],
    [['--gateway', 'https://gw.example/', '--host', 'a b'], 'USAGE'],
    [['--gateway', 'https://gw.example/', '--ca-file', '/does/not/exist'], 'CONFIG_INVALID'],
    [['--remove', '--host', 'a'], 'USAGE'],
    [['--frob'], 'ERR_PARSE_ARGS_UNKNOWN_OPTION'],
    [['box'], 'ERR_PARSE_ARGS_UNEXPECTED_POSITIONAL'],
  ] as const) {
    it(`refuses ${args.join(' ') || 'no gateway'} and changes nothing`, (t) => {
      const home = temporaryDirectory(t);
      assert.throws(() => setup(home, ...args), { code });
      assert.deepEqual(readdirSync(home), []);
    });
  }

  it('says so when ~/.ssh/config is not a file', (t) => {
    const home = temporaryDirectory(t);
    mkdirSync(join(home, '.ssh', 'config'), { recursive: true });
    assert.throws(() => setup(home, ...full), { code: 'CONFIG_INVALID' });
  });

  it('takes away what is left of it when its own file is damaged', (t) => {
    const home = homeWithConfig(t, 'Host *\n');
    setup(home, ...full);
    writeFileSync(join(home, '.config', 'postern', 'config.json'), '{');
    setup(home, '--remove');
    assert.equal(readFileSync(join(home, '.ssh', 'config'), 'utf8'), 'Host *\n');
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
    assert.match(stdout, /^proxycommand '.+' '.+' connect -- '%h' '%p'$/m);
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
