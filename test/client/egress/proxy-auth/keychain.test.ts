import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { keychainReader } from '../../../../client/egress/proxy-auth/keychain.ts';

const question = { proxy: { host: 'proxy.example', port: 3128 }, tls: false, isPromptAllowed: true };

// What `security find-internet-password -g` prints: attributes, and on stderr the password.
const macos = `keychain: "/Users/alice/Library/Keychains/login.keychain-db"
version: 512
class: "inet"
attributes:
    0x00000007 <blob>="proxy.example (alice)"
    0x00000008 <blob>=<NULL>
    "acct"<blob>="CORP\\alice"
    "atyp"<blob>="dflt"
    "cdat"<timedate>=0x32303236313132343132303030305A00  "20261124120000Z\\000"
    "port"<uint32>=0x00000C38
    "ptcl"<uint32>="htpx"
    "srvr"<blob>="proxy.example"
password: "correct horse"
`;

// What secret-tool 0.20.5 prints, the attributes on stderr.
const linux = `[/1]
label = proxy
secret = correct horse
created = 2026-11-25 00:06:18
modified = 2026-11-25 00:06:18
attribute.port = 3128
attribute.protocol = http
attribute.server = proxy.example
attribute.user = CORP\\alice
`;

const encoded = (text: string): string => Buffer.from(text).toString('base64');

function askedOnLinux(isPromptAllowed: boolean): string {
  return keychainReader({ ...question, isPromptAllowed: isPromptAllowed }, 'linux')!.argv.join(' ');
}

describe('keychainReader()', () => {
  const found = { user: String.raw`CORP\alice`, password: 'correct horse' };
  const cases: readonly [string, NodeJS.Platform, string, typeof found | undefined][] = [
    ['an entry of macOS', 'darwin', macos, found],
    [
      'one with letters beyond ASCII',
      'darwin',
      macos.replace('"correct horse"', String.raw`0x636F72726563742068C3B6727365  "correct h\303\266rse"`),
      { ...found, password: 'correct hörse' },
    ],
    ['one with quotes', 'darwin', macos.replace('correct horse', 'a"b'), { ...found, password: 'a"b' }],
    [
      'that there is none in macOS',
      'darwin',
      'security: SecKeychainSearchCopyNext: The specified item could not be found in the keychain.\n',
      undefined,
    ],
    ['an entry of the Secret Service', 'linux', linux, found],
    ['one that is locked', 'linux', linux.replace(/secret.*\n/, ''), undefined],
    ['that there is none in the Secret Service', 'linux', '', undefined],
    ['a credential of Windows', 'win32', `${encoded(found.user)}\r\n${encoded('correct horse')}\r\n`, found],
    ['that PowerShell may not ask', 'win32', 'Add-Type : Cannot add type.\r\n    + Category\r\n', undefined],
    ['that there is none in Windows', 'win32', '', undefined],
  ];
  for (const [what, platform, output, expected] of cases) {
    it(`reads ${what}`, () => {
      const reader = keychainReader(question, platform)!;
      assert.deepEqual(reader.parse(output), expected);
    });
  }

  it('asks macOS for the entry that it keeps for the proxy, of a user where one is named', () => {
    const { argv } = keychainReader({ ...question, tls: true, user: 'alice' }, 'darwin')!;
    const asked = 'find-internet-password -s proxy.example -P 3128 -r htsx -a alice -g';
    assert.equal(argv.slice(1).join(' '), asked);
  });

  it('has the Secret Service unlocked only where somebody may be asked', () => {
    const attributes = 'protocol http server proxy.example port 3128';
    assert.equal(askedOnLinux(true), `secret-tool search --unlock ${attributes}`);
    assert.equal(askedOnLinux(false), `secret-tool search ${attributes}`);
  });

  it('quotes what it tells people to paste, and what goes into a script', () => {
    const odd = { ...question, proxy: { host: "a'b", port: 1 }, user: "o'hara" };
    assert.match(keychainReader(odd, 'linux')!.storing, /user 'o'\\''hara'$/);
    const script = Buffer.from(keychainReader(odd, 'win32')!.argv.at(-1)!, 'base64').toString('utf16le');
    assert.ok(script.includes("Read('postern:a''b:1')"));
  });

  it('knows no keychain elsewhere', () => assert.equal(keychainReader(question, 'aix'), undefined));
});
