import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Secret } from '../../../protocol/secret.ts';
import { TunnelError, tunnelErrors } from '../../../protocol/errors.ts';
import type { TunnelErrorCode } from '../../../protocol/errors.ts';
import { formatTarget } from '../../../protocol/target.ts';
import { HandshakeRun } from '../../../client/local-proxy/handshake.ts';
import type { ConnectRequest } from '../../../client/local-proxy/handshake.ts';
import { detectProtocol } from '../../../client/local-proxy/detect-protocol.ts';
import { Password } from '../../../client/local-proxy/password.ts';

const password = new Password(new Secret('sesame'));

/** What a dialogue comes to, in a form that can be compared. */
interface End {
  readonly said: string;
  readonly target?: string;
  readonly rest?: string;
  readonly code?: string;
  readonly answer?: string;
}

function lead(chunks: readonly Buffer[], wanted?: Password): End {
  const run = new HandshakeRun(detectProtocol(wanted));
  let said = '';
  let end: { readonly result: ConnectRequest; readonly rest: Buffer } | undefined;
  for (const chunk of chunks) {
    if (end !== undefined) {
      end = { ...end, rest: Buffer.concat([end.rest, chunk]) };
      continue;
    }
    const turn = run.push(chunk);
    said += Buffer.concat(turn.replies).toString('hex');
    if (turn.refusal !== undefined) {
      const { error, answer } = turn.refusal;
      return { said, code: error.code, answer: answer?.toString('latin1') ?? '' };
    }
    end = turn.done;
  }
  if (end === undefined) return { said };
  return { said, target: formatTarget(end.result.target), rest: end.rest.toString('latin1') };
}

const bytes = (...parts: readonly (string | readonly number[])[]): Buffer =>
  Buffer.concat(
    parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : Buffer.from(part))),
  );

const greeting = [5, 1, 0];
const toBox = bytes([5, 1, 0, 3, 3], 'box', [0, 22]);
const basic = (text: string): string =>
  `Proxy-Authorization: Basic ${Buffer.from(text).toString('base64')}\r\n`;

const requests: readonly (readonly [what: string, sent: Buffer, end: End, wanted?: Password])[] = [
  ['SOCKS5 by name', bytes(greeting, [...toBox], 'SSH-'), { said: '0500', target: 'box:22', rest: 'SSH-' }],
  [
    'SOCKS5 by address',
    bytes(greeting, [5, 1, 0, 1, 10, 0, 0, 5, 0, 22]),
    { said: '0500', target: '10.0.0.5:22', rest: '' },
  ],
  [
    'SOCKS5 by IPv6 address',
    bytes(greeting, [5, 1, 0, 4, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 8, 174]),
    { said: '0500', target: '[2001:db8::1]:2222', rest: '' },
  ],
  [
    'SOCKS5 with a password that nobody asked for',
    bytes([5, 1, 2], [1, 1], 'u', [1], 'p', [...toBox]),
    { said: '05020100', target: 'box:22', rest: '' },
  ],
  [
    'SOCKS5 with the password',
    bytes([5, 2, 0, 2], [1, 0, 6], 'sesame', [...toBox]),
    { said: '05020100', target: 'box:22', rest: '' },
    password,
  ],
  [
    'SOCKS5 with a wrong password',
    bytes([5, 1, 2], [1, 0, 6], 'Sesame'),
    { said: '0502', code: 'LISTENER_DENIED', answer: '\x01\x01' },
    password,
  ],
  [
    'SOCKS5 without the password',
    bytes(greeting),
    { said: '', code: 'LISTENER_DENIED', answer: '\x05\xff' },
    password,
  ],
  [
    'SOCKS5 with methods of no use',
    bytes([5, 1, 1]),
    { said: '', code: 'LISTENER_DENIED', answer: '\x05\xff' },
  ],
  [
    'SOCKS5 to listen',
    bytes(greeting, [5, 2, 0, 3, 3], 'box', [0, 22]),
    { said: '0500', code: 'REQUEST_INVALID', answer: '\x05\x07\0\x01\0\0\0\0\0\0' },
  ],
  [
    'SOCKS5 for UDP',
    bytes(greeting, [5, 3, 0, 1, 0, 0, 0, 0, 0, 0]),
    { said: '0500', code: 'REQUEST_INVALID', answer: '\x05\x07\0\x01\0\0\0\0\0\0' },
  ],
  [
    'SOCKS5 with an address of no kind',
    bytes(greeting, [5, 1, 0, 2]),
    { said: '0500', code: 'REQUEST_INVALID', answer: '\x05\x08\0\x01\0\0\0\0\0\0' },
  ],
  [
    'SOCKS5 to a name with a shell in it',
    bytes(greeting, [5, 1, 0, 3, 4], 'a$(x', [0, 22]),
    { said: '0500', code: 'TARGET_INVALID', answer: '\x05\x08\0\x01\0\0\0\0\0\0' },
  ],
  [
    'SOCKS4 by address',
    bytes([4, 1, 0, 22, 10, 0, 0, 5], 'me\0'),
    { said: '', target: '10.0.0.5:22', rest: '' },
  ],
  [
    'SOCKS4a by name',
    bytes([4, 1, 0, 22, 0, 0, 0, 1], '\0box\0S'),
    { said: '', target: 'box:22', rest: 'S' },
  ],
  [
    'SOCKS4 where there is a password',
    bytes([4, 1, 0, 22, 0, 0, 0, 1], '\0box\0'),
    { said: '', code: 'LISTENER_DENIED', answer: '\0\x5b\0\0\0\0\0\0' },
    password,
  ],
  [
    'SOCKS4 to listen',
    bytes([4, 2, 0, 22, 10, 0, 0, 5, 0]),
    { said: '', code: 'REQUEST_INVALID', answer: '\0\x5b\0\0\0\0\0\0' },
  ],
  [
    'SOCKS4 with a user name that has no end',
    bytes([4, 1, 0, 22, 10, 0, 0, 5], 'x'.repeat(256)),
    { said: '', code: 'REQUEST_INVALID', answer: '\0\x5b\0\0\0\0\0\0' },
  ],
  ['CONNECT of nc', bytes('CONNECT box:22 HTTP/1.0\r\n\r\n'), { said: '', target: 'box:22', rest: '' }],
  [
    'CONNECT with Host, and what came after it',
    bytes('CONNECT BOX:22 HTTP/1.1\r\nHost: box:22\r\nUser-Agent: curl\r\n\r\nSSH-'),
    { said: '', target: 'box:22', rest: 'SSH-' },
  ],
  [
    'CONNECT that names the proxy in Host, as proxytunnel does',
    bytes('CONNECT box:22 HTTP/1.0\r\nHost: 127.0.0.1:1080\r\n\r\n'),
    { said: '', target: 'box:22', rest: '' },
  ],
  [
    'CONNECT to an IPv6 address',
    bytes('CONNECT [2001:db8::1]:22 HTTP/1.1\r\nHost: [2001:db8::1]:22\r\n\r\n'),
    { said: '', target: '[2001:db8::1]:22', rest: '' },
  ],
  [
    'CONNECT with the password',
    bytes(`CONNECT box:22 HTTP/1.1\r\n${basic('any:sesame')}\r\n`),
    { said: '', target: 'box:22', rest: '' },
    password,
  ],
  [
    'a page',
    bytes('GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'),
    { said: '', code: 'REQUEST_INVALID', answer: '' },
  ],
  ['neither', bytes([22, 3, 1]), { said: '', code: 'REQUEST_INVALID', answer: '' }],
];

describe('hear()', () => {
  for (const [what, sent, end, wanted] of requests) {
    it(`${end.target === undefined ? 'refuses' : 'understands'} ${what}, however it is split`, () => {
      assert.deepEqual(lead([sent], wanted), end);
      for (let at = 0; at <= sent.length; at++)
        assert.deepEqual(lead([sent.subarray(0, at), sent.subarray(at)], wanted), end, `split at ${at}`);
      assert.deepEqual(
        lead(
          [...sent].map((byte) => Buffer.of(byte)),
          wanted,
        ),
        end,
      );
    });
  }

  for (const [what, head, status] of [
    ['two of Host', 'CONNECT box:22 HTTP/1.1\r\nHost: box:22\r\nHost: box:22\r\n\r\n', 400],
    ['another name in Host', 'CONNECT box:22 HTTP/1.1\r\nHost: evil.example\r\n\r\n', 400],
    ['a name like ours in Host', 'CONNECT box:22 HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n', 400],
    ['a folded header', 'CONNECT box:22 HTTP/1.1\r\nHost: box:22\r\n folded\r\n\r\n', 400],
    ['a body', 'CONNECT box:22 HTTP/1.1\r\nContent-Length: 5\r\n\r\n', 400],
    ['chunks', 'CONNECT box:22 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n', 400],
    ['no port', 'CONNECT box HTTP/1.1\r\n\r\n', 400],
    ['an Origin', 'CONNECT box:22 HTTP/1.1\r\nOrigin: https://a.example\r\n\r\n', 403],
    ['no password', 'CONNECT box:22 HTTP/1.1\r\n\r\n', 407],
    ['a wrong password', `CONNECT box:22 HTTP/1.1\r\n${basic('sesame:wrong')}\r\n`, 407],
    [
      'a password in another scheme',
      'CONNECT box:22 HTTP/1.1\r\nProxy-Authorization: Bearer sesame\r\n\r\n',
      407,
    ],
    ['a page for a proxy', 'GET http://box:22/ HTTP/1.1\r\nHost: box:22\r\n\r\n', 405],
  ] as const) {
    it(`answers ${status} to a CONNECT with ${what}, and closes`, () => {
      const { answer = '' } = lead([bytes(head)], password);
      assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `));
      assert.match(answer, /\r\nConnection: close\r\n/);
      const [, length] = /\r\nContent-Length: (\d+)\r\n/.exec(answer) ?? [];
      const [, body] = answer.split('\r\n\r\n');
      assert.equal(body!.length, Number(length));
      assert.equal((JSON.parse(body!) as { status: number }).status, status);
    });
  }

  it('says no more than 16 KiB of a head that has no end', () => {
    assert.equal(lead([bytes(`CONNECT ${'x'.repeat(16 * 1024)}`)]).code, 'HEADERS_TOO_LARGE');
  });

  // Any bytes give a target, the wish for more, or a listed refusal, never anything else.
  it('makes no more of any bytes than that', () => {
    let seed = 1;
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return Math.floor((seed / 2 ** 32) * below);
    };
    const seen = new Set<string>();
    for (let round = 0; round < 20_000; round++) {
      const [, from, , wanted] = requests[random(requests.length)]!;
      const sent = Buffer.from(from);
      for (let change = random(4); change > 0; change--) sent[random(sent.length)] = random(256);
      const cut = sent.subarray(0, random(sent.length + 1));
      const { code, target } = lead([cut.subarray(0, random(cut.length + 1)), cut], wanted);
      if (code !== undefined) assert.ok(Object.hasOwn(tunnelErrors, code), code);
      seen.add(code ?? (target === undefined ? 'more' : 'target'));
    }
    for (const one of ['more', 'target', 'REQUEST_INVALID', 'TARGET_INVALID', 'LISTENER_DENIED'])
      assert.ok(seen.has(one), one);
  });
});

function asked(sent: Buffer): ConnectRequest {
  return new HandshakeRun(detectProtocol(undefined)).push(sent).done!.result;
}

describe('what a tunnel that does not open is in the words of each protocol', () => {
  const [socks5, socks4, http] = [
    asked(bytes(greeting, [...toBox])),
    asked(bytes([4, 1, 0, 22, 0, 0, 0, 1], '\0box\0')),
    asked(bytes('CONNECT box:22 HTTP/1.1\r\n\r\n')),
  ];
  for (const [code, reply, status] of [
    ['TARGET_DENIED', 2, 403],
    ['ADDRESS_DENIED', 2, 403],
    ['LIMIT_SUBJECT', 2, 429],
    ['TOKEN_MISSING', 2, 403],
    ['TOKEN_INVALID', 2, 403],
    ['NAME_NOT_FOUND', 4, 502],
    ['DIAL_REFUSED', 5, 502],
    ['DIAL_TIMEOUT', 6, 504],
    ['DIAL_UNREACHABLE', 4, 502],
    ['GATEWAY_UNREACHABLE', 3, 502],
    ['GATEWAY_TIMEOUT', 3, 504],
    ['PROXY_SIGN_IN', 3, 502],
    ['TLS_FAILED', 1, 502],
    ['LIMIT_TUNNELS', 1, 503],
    ['INTERNAL', 1, 500],
  ] as const satisfies readonly (readonly [TunnelErrorCode, number, number])[]) {
    it(`${code}: SOCKS5 ${reply}, SOCKS4 91, HTTP ${status}`, () => {
      const error = new TunnelError(code, 'why\u001b[31m\nnot');
      assert.equal(socks5.refused(error)[1], reply);
      assert.equal(socks4.refused(error)[1], 91);
      const text = http.refused(error).toString();
      assert.match(text, new RegExp(`^HTTP/1\\.1 ${status} .*\\(${code}\\)\\r\\n`));
      // oxlint-disable-next-line no-control-regex
      assert.doesNotMatch(text, /\x1b/);
    });
  }

  it('every code of the table can be said', () => {
    for (const code of Object.keys(tunnelErrors) as TunnelErrorCode[]) {
      const error = new TunnelError(code, 'why');
      assert.ok(socks5.refused(error)[1]! > 0);
      const [, status] = /^HTTP\/1\.1 ([45]\d\d) /.exec(http.refused(error).toString()) ?? [];
      assert.ok(status !== undefined && status !== '401' && status !== '407', code);
    }
  });
});
