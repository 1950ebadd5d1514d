import assert from 'node:assert/strict';
import { isIP } from 'node:net';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { TunnelError } from '../../protocol/errors.ts';
import {
  formatTarget,
  isAddress,
  parseTarget,
  parseTargetParts,
  quote,
  sshPort,
} from '../../protocol/target.ts';

const numRuns = Number(process.env['POSTERN_FUZZ_RUNS'] ?? 1000);

describe('parseTarget()', () => {
  const accepted: readonly (readonly [string, string, number])[] = [
    ['box', 'box', 22],
    ['BOX', 'box', 22],
    ['box:2222', 'box', 2222],
    ['box:65535', 'box', 65535],
    ['db-1.dev.example:22', 'db-1.dev.example', 22],
    ['xn--bcher-kva.example', 'xn--bcher-kva.example', 22],
    ['1password.example', '1password.example', 22],
    ['my_box', 'my_box', 22],
    ['MY_Box:2222', 'my_box', 2222],
    ['_box', '_box', 22],
    ['box_', 'box_', 22],
    ['_', '_', 22],
    ['box-', 'box-', 22],
    ['a_b.c_d.dev_1', 'a_b.c_d.dev_1', 22],
    ['10_0', '10_0', 22],
    ['0x7f_', '0x7f_', 22],
    ['127.0.0.1', '127.0.0.1', 22],
    ['0.0.0.0:22', '0.0.0.0', 22],
    ['[::1]', '::1', 22],
    ['[::1]:2222', '::1', 2222],
    ['[2001:DB8:0:0::1]:22', '2001:db8::1', 22],
    ['[::ffff:127.0.0.1]:22', '::ffff:7f00:1', 22],
    [`${'a'.repeat(63)}.example`, `${'a'.repeat(63)}.example`, 22],
  ];
  for (const [text, host, port] of accepted) {
    it(`reads ${text}`, () => {
      assert.deepEqual(parseTarget(text), { host, port });
    });
  }

  const hosts = [
    // Numbers that getaddrinfo reads as 127.0.0.1 (SECURITY.md E8), and their kin.
    '127.1',
    '127.0.1',
    '0x7f.1',
    '0x7f.0.0.1',
    '0177.0.0.1',
    '2130706433',
    '0x7f000001',
    '017700000001',
    '127.0.0.01',
    '127.0.0.1.',
    '127.0.0.0x1',
    '256.0.0.1',
    '1.2.3.4.5',
    '1.2.3',
    '0',
    '００.0.0.1',
    '１２７.0.0.1',
    '127。0。0。1',
    '127．0．0．1',
    '①②⑦.⓪.⓪.①',
    'locaLhost\u00AD',
    'lo\u200Dcalhost',
    '127.0.0.1\0.example',
    'box\0',
    // Letters whose lower case is ASCII.
    '\u212Aey.example',
    '\u0130stanbul.example',
    'ſ.example',
    'bücher.example',
    // White space, line ends, escapes.
    '',
    ' box',
    'box ',
    'a b',
    'box\t',
    'box\n',
    'box\r\nHost: evil',
    'box%00',
    'box%2eexample',
    'a%20b',
    // Names out of shape.
    '.',
    '..',
    '.box',
    'box.',
    'a..b',
    '-oProxyCommand=x',
    '-box',
    'a.-b.c',
    '_box.1',
    'my_box.',
    '-_box',
    'my_box_.0x7f',
    'my\uFF3Fbox',
    `pt_${'Ab1'.repeat(15)}`,
    `PT_${'x'.repeat(43)}`,
    'a'.repeat(64),
    `${'a.'.repeat(127)}aa`,
    '*',
    '*.example',
    // Things around a host.
    'user@box',
    'a@b@c',
    'http://box',
    'ssh://box',
    '//box',
    'box/',
    'box/../evil',
    'box;x',
    'box?x',
    'box#x',
    'box\\evil',
    '$(id)',
    '`id`',
    "box'",
    '"box"',
    // IPv6 out of shape.
    '::1',
    '[::1',
    '::1]',
    '[]',
    '[::1%eth0]',
    '[::1%25eth0]',
    '[fe80::1%lo]',
    '[1.2.3.4]',
    '[box]',
    '[:::1]',
    '[::1::]',
    '[1:2:3:4:5:6:7:8:9]',
    '[12345::]',
    '[::127.1]',
    '[::0x7f.0.0.1]',
    '[::ffff:127.0.0.01]',
    '[v1.fe]',
    '[ ::1]',
    '[[::1]]',
    '[::1]box',
  ];
  const ports = ['', ':22'];
  for (const host of hosts) {
    for (const port of ports) {
      it(`refuses ${quote(host + port)}`, () => {
        assert.throws(() => parseTarget(host + port), { code: 'TARGET_INVALID' });
      });
    }
  }

  const badPorts = [
    '',
    '0',
    '00',
    '022',
    '65536',
    '65558',
    '99999',
    '100000',
    '+22',
    '-22',
    '22 ',
    ' 22',
    '0x16',
  ].concat(['2e1', '22.0', '22:22', '٢٢', '２２', '22\n', '22\0', 'ssh', '22/', '22#']);
  for (const port of badPorts) {
    for (const host of ['box', '127.0.0.1', '[::1]']) {
      it(`refuses ${host} with the port ${quote(port)}`, () => {
        assert.throws(() => parseTarget(`${host}:${port}`), { code: 'TARGET_INVALID' });
      });
    }
  }

  it('demands a port when it is required', () => {
    assert.throws(() => parseTarget('box', 'required'), { code: 'TARGET_INVALID' });
    assert.deepEqual(parseTarget('box:22', 'required'), { host: 'box', port: 22 });
  });

  it('gives canonical targets or TARGET_INVALID, whatever the text', () => {
    const piece = fc.constantFrom(
      '127',
      '0',
      '1',
      '.',
      ':',
      '[',
      ']',
      '::',
      'ffff',
      'box',
      'A',
      '-',
      '0x7f',
      '22',
      '65535',
      '%',
      '\0',
      '。',
      '１',
      'K',
    );
    const text = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 40 }),
      fc.array(piece, { maxLength: 14 }).map((pieces) => pieces.join('')),
      fc.ipV6().map((address) => `[${address}]:22`),
      fc.ipV4().map((address) => `${address}:22`),
      fc.domain(),
    );
    fc.assert(fc.property(text, checkCanonical), { numRuns });
  });
});

function checkCanonical(text: string): void {
  let target;
  try {
    target = parseTarget(text);
  } catch (error) {
    assert.ok(error instanceof TunnelError && error.code === 'TARGET_INVALID', String(error));
    return;
  }
  assert.deepEqual(parseTarget(formatTarget(target)), target);
  assert.match(target.host, /^[a-z0-9_.:-]{1,253}$/);
  assert.ok(Number.isInteger(target.port) && target.port > 0 && target.port < 65536);
  // Either the platform sees an address too, in the same spelling, or the name cannot be read as a number by anything.
  assert.equal(isIP(target.host) > 0, isAddress(target.host), target.host);
  if (!isAddress(target.host)) {
    assert.equal(new URL(`http://${target.host}/`).hostname, target.host);
    assert.match(target.host.split('.').at(-1)!, /[a-z-]/);
  }
}

describe('parseTargetParts()', () => {
  const accepted: readonly (readonly [string, string, string, number])[] = [
    ['box', '22', 'box', 22],
    ['::1', '22', '::1', 22],
    ['[::1]', '2222', '::1', 2222],
    ['127.0.0.1', '22', '127.0.0.1', 22],
  ];
  for (const [host, port, wantedHost, wantedPort] of accepted) {
    it(`reads ${host} and ${port}`, () => {
      assert.deepEqual(parseTargetParts(host, port), { host: wantedHost, port: wantedPort });
    });
  }

  const refused: readonly (readonly [string, string])[] = [
    ['', '22'],
    ['box', ''],
    ['box', '0'],
    ['box', '22:22'],
    ['box:22', '22'],
    ['[::1]:22', '22'],
    ['[::1]:', '22'],
    // Halves that make a target only when they are joined.
    ['[2001:db8', ':1]:22'],
    ['[::1]', ':22'],
    ['a', 'b:22'],
    ['[:', ':1]:22'],
  ];
  for (const [host, port] of refused) {
    it(`refuses ${quote(host)} and ${quote(port)}`, () => {
      assert.throws(() => parseTargetParts(host, port), { code: 'TARGET_INVALID' });
    });
  }

  it('reads each part as parseTarget() reads it, or refuses', () => {
    const part = fc.oneof(
      fc.string({ maxLength: 12 }),
      fc.constantFrom('box', '22', '[::1]', '::1', '[', ']', ':1]:22'),
    );
    const property = fc.property(part, part, (host, port) => {
      let target;
      try {
        target = parseTargetParts(host, port);
      } catch (error) {
        assert.equal((error as TunnelError).code, 'TARGET_INVALID');
        return;
      }
      assert.equal(String(target.port), port);
      assert.equal(
        parseTarget(host.includes(':') && !host.startsWith('[') ? `[${host}]` : host).host,
        target.host,
      );
    });
    fc.assert(property, { numRuns });
  });
});

describe('quote()', () => {
  it('leaves nothing that a terminal or a log would act on', () => {
    const property = fc.property(fc.string({ unit: 'binary' }), (text) => {
      assert.match(quote(text), /^[\x20-\x7e…]*$/);
    });
    fc.assert(property, { numRuns });
  });
});

it('the default port is that of SSH', () => {
  assert.equal(parseTarget('box').port, sshPort);
});
