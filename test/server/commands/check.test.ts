import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { chmod, link, symlink, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { check } from '../../../server/commands/check.ts';
import { serve } from '../../../server/commands/serve.ts';
import { token } from '../../../server/commands/token.ts';
import { defaultConfigText } from '../../../server/config/sample.ts';
import { directoryWith, run } from './bench.ts';

/** A gateway on this machine can have the default ports, also one of another test. */
const anyPorts = { POSTERN__LISTEN: '127.0.0.1:0', POSTERN__ADMIN: '127.0.0.1:0' };

describe('postern-gateway check', () => {
  it('says ok of the default settings, and makes no file', async (t) => {
    const at = await directoryWith(t, { 'postern.yaml': defaultConfigText() });
    const { code, stdout, stderr } = await run(check, ['--config', join(at, 'postern.yaml')], anyPorts);
    assert.deepEqual([code, stderr], [0, '']);
    assert.match(stdout, /: ok\n$/);
    assert.deepEqual(await readdir(at), ['postern.yaml']);
  });

  it('says every problem with file and line and exits 2', async (t) => {
    const at = await directoryWith(t, { 'postern.yaml': 'listn: x\nlimits: { tunnels: 0 }\n' });
    const file = join(at, 'postern.yaml');
    const { code, stdout, stderr } = await run(check, ['--config', file], { POSTERN__NOTHING: '1' });
    assert.deepEqual([code, stdout], [2, '']);
    const starts = stderr
      .trimEnd()
      .split('\n')
      .map((line) => line.split(': ')[0]);
    assert.deepEqual(new Set(starts), new Set(['POSTERN__NOTHING', `${file}:1`, `${file}:2`]));
  });

  it('exits 2 for a file that is not there, and for arguments it does not know', async (t) => {
    const at = await directoryWith(t, {});
    assert.equal((await run(check, ['--config', join(at, 'postern.yaml')])).code, 2);
    assert.equal((await run(check, ['--confg', 'x'])).code, 2);
    assert.equal((await run(check, ['more'])).code, 2);
  });

  it('says what stops serve and exits 2, and warns of what is likely a mistake', async (t) => {
    const at = await directoryWith(t, {
      'key.json': '{}',
      'postern.yaml': `
listen: 0.0.0.0:8022
admin: 0.0.0.0:9464
publicUrl: https://gw.example/ssh/
keyFile: key.json
tls: { certFile: none.pem, keyFile: none.pem }
issuers: [{ issuer: ci, audience: postern, jwksFile: none.json }]
rules: [{ groups: [dev], targets: [a.example] }]
audit: { file: nowhere/audit.jsonl }
`,
    });
    const { code, stderr } = await run(check, ['--config', join(at, 'postern.yaml')]);
    assert.equal(code, 2);
    for (const part of ['keyFile', 'tls', 'audit.file'])
      assert.match(stderr, new RegExp(`postern.yaml: ${part}: `));
    for (const part of ['the keys of ci', 'admin', 'rule 1'])
      assert.match(stderr, new RegExp(`warning: ${part}`));
  });

  it('says that others can read the key', async (t) => {
    const at = await directoryWith(t, { 'postern.yaml': defaultConfigText() });
    const config = ['--config', join(at, 'postern.yaml')];
    await run(token, [...config, '--subject', 'alice']);
    assert.equal((await run(check, config, anyPorts)).stderr, '');
    await chmod(join(at, 'postern-key.json'), 0o644);
    const { code, stderr } = await run(check, config, anyPorts);
    assert.equal(code, 2);
    assert.match(stderr, /keyFile: other users can read .*; run: chmod 600/);
  });

  it('says that a port is in use, and by which command to find who has it', async (t) => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as { port: number };
    const at = await directoryWith(t, {});
    const settings = base(at).replace(/^listen: .*$/m, `listen: 127.0.0.1:${port}`);
    await writeFile(join(at, 'postern.yaml'), settings);
    const { code, stderr } = await run(check, ['--config', join(at, 'postern.yaml')]);
    other.close();
    assert.equal(code, 2);
    assert.match(stderr, new RegExp(`listen: .*\\(EADDRINUSE\\): another program .*sport = :${port}`));
  });
});

function base(at: string): string {
  return `admin: unix:${at}/admin.sock\nlisten: unix:${at}/listen.sock\npublicUrl: https://gw.example/ssh/\n`;
}

/** What stops serve: settings and files, and what both commands have to say. */
const hindrances: readonly [
  what: string,
  settings: string,
  says: RegExp,
  prepare?: (at: string) => Promise<unknown>,
][] = [
  [
    'a folder of the audit that is missing',
    'audit: { file: nowhere/a.jsonl }',
    /audit\.file: the folder \S+\/nowhere does not exist; create it/,
  ],
  [
    'a folder of the key that is missing',
    'keyFile: nowhere/k.json',
    /keyFile: the folder \S+\/nowhere does not exist; create it/,
  ],
  [
    'a folder of the store that is missing',
    'store: { file: nowhere/s.db }',
    /store\.file: the folder \S+\/nowhere does not exist; create it/,
  ],
  [
    'a folder of the control socket that is missing',
    'control: unix:./nowhere/c.sock',
    /control: cannot create \S+\/nowhere\/c\.sock\.d: the folder \S+\/nowhere does not exist; create it\. Under systemd set control: unix:\/var\/lib/,
  ],
  [
    'a folder in which nothing can be made',
    'audit: { file: /proc/audit.jsonl }',
    /audit\.file: the folder \/proc (is not writable|cannot be written)/,
  ],
  [
    'a folder that is a file',
    'audit: { file: file.txt/a.jsonl }',
    /audit\.file: \S+file\.txt is not a folder/,
  ],
  [
    'an audit file that is a directory',
    'audit: { file: dir }',
    /audit\.file: \S+dir is a directory/,
    (at) => mkdir(join(at, 'dir')),
  ],
  [
    'a store that is a directory',
    'store: { file: dir }',
    /store\.file: \S+dir is a directory/,
    (at) => mkdir(join(at, 'dir')),
  ],
  [
    'a store that is none',
    'store: { file: file.txt }',
    /it is not a store of a gateway/,
    (at) => chmod(join(at, 'file.txt'), 0o600),
  ],
  ['a store that others can read', 'store: { file: file.txt }', /other users can read \S+; run: chmod 600/],
  [
    'an empty store that others can read',
    'store: { file: empty.db }',
    /other users can read \S+; run: chmod 600/,
    (at) => writeFile(join(at, 'empty.db'), '', { mode: 0o644 }),
  ],
  [
    'a store that is the audit',
    'audit: { file: ./postern.db }',
    /audit\.file: \S+postern\.db is the file of store\.file too; each needs/,
  ],
  [
    'an audit that is a file beside the store, by a link to its folder',
    'audit: { file: here/postern.db-wal }',
    /audit\.file: \S+ is the file of store\.file too/,
    (at) => symlink(at, join(at, 'here')),
  ],
  [
    'a key that is the audit, by a hard link',
    'audit: { file: a.jsonl }\nkeyFile: b.json',
    /is not a set of|audit\.file: \S+ is the file of keyFile too/,
    async (at) => {
      await writeFile(join(at, 'a.jsonl'), '', { mode: 0o600 });
      await link(join(at, 'a.jsonl'), join(at, 'b.json'));
    },
  ],
  [
    'a control socket that is the store',
    'control: unix:./postern.db',
    /control: \S+postern\.db is the file of store\.file too/,
  ],
  [
    'an audit that is a pipe',
    'audit: { file: pipe }',
    /audit\.file: \S+pipe is no file; the audit needs one/,
    async (at) => execFileSync('mkfifo', [join(at, 'pipe')]),
  ],
  [
    'a key that is a link to nothing',
    'keyFile: link.json',
    /keyFile: \S+link\.json is a link to \/nowhere\/k, which does not exist/,
    (at) => symlink('/nowhere/k', join(at, 'link.json')),
  ],
  [
    'a store that is a link into a folder that is missing',
    'store: { file: link.db }',
    /store\.file: the folder \/nowhere does not exist; create it/,
    (at) => symlink('/nowhere/s.db', join(at, 'link.db')),
  ],
  ['a control path that is too long', `control: unix:./${'x'.repeat(100)}`, /control: \S+ is too long/],
  [
    'a file in the place of the control socket',
    'control: unix:./file.txt',
    /control: \S+file\.txt is there already and not a socket/,
  ],
  [
    'a folder of the instances that others can enter',
    'control: unix:./c',
    /chmod 700/,
    (at) => mkdir(join(at, 'c.d'), { mode: 0o755 }),
  ],
  [
    'a key that is none',
    'keyFile: file.txt',
    /keyFile: \S+ is not a set of Ed25519 private keys/,
    (at) => chmod(join(at, 'file.txt'), 0o600),
  ],
  [
    'TLS files that are missing',
    'tls: { certFile: c.pem, keyFile: k.pem }',
    /tls: tls\.certFile: there is no file \S+c\.pem/,
  ],
  [
    'a certificate that is none',
    'tls: { certFile: file.txt, keyFile: one.key }',
    /tls\.certFile: \S+file\.txt is not a certificate in PEM/,
  ],
  [
    'a TLS key that is none',
    'tls: { certFile: one.crt, keyFile: file.txt }',
    /tls\.keyFile: \S+file\.txt is not a private key in PEM/,
  ],
  [
    'the key of another certificate',
    'tls: { certFile: one.crt, keyFile: other.key }',
    /tls\.keyFile is not the key of the certificate in tls\.certFile/,
  ],
  [
    'a key with a password',
    'tls: { certFile: one.crt, keyFile: locked.key }',
    /is encrypted with a password/,
  ],
];

describe('check and serve', () => {
  let files: Record<string, string>;
  before(async () => {
    const made = await mkdtemp(join(tmpdir(), 'postern-check-'));
    const openssl = (...args: string[]): void =>
      void execFileSync('openssl', args, { cwd: made, stdio: 'ignore' });
    for (const name of ['one', 'other'])
      openssl(
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:P-256',
        '-nodes',
        '-days',
        '2',
        '-subj',
        '/CN=x',
        '-keyout',
        `${name}.key`,
        '-out',
        `${name}.crt`,
      );
    openssl('pkey', '-in', 'one.key', '-aes256', '-passout', 'pass:secret', '-out', 'locked.key');
    const names = ['one.crt', 'one.key', 'other.key', 'locked.key'];
    files = Object.fromEntries(names.map((name) => [name, readFileSync(join(made, name), 'utf8')]));
    await rm(made, { recursive: true });
  });

  for (const [what, settings, says, prepare] of hindrances)
    it(`agree on ${what}`, async (t) => {
      const at = await directoryWith(t, { ...files, 'file.txt': 'neither this nor that\n' });
      if (what === 'a store that others can read') await chmod(join(at, 'file.txt'), 0o644);
      await writeFile(join(at, 'postern.yaml'), `${base(at)}${settings}\n`);
      await prepare?.(at);
      const config = ['--config', join(at, 'postern.yaml')];
      const checked = await run(check, config);
      assert.equal(checked.code, 2, checked.stderr);
      assert.match(checked.stderr, says);
      assert.doesNotMatch(checked.stderr, /ENOENT|EACCES|error:0/);
      const served = await run(serve, config);
      assert.notEqual(served.code, 0);
      assert.match(served.stderr, says);
      assert.ok(!(await readdir(at)).some((name) => name.startsWith('.postern-check')));
    });
});
