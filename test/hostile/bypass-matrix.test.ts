// SECURITY: every spelling of a host and a port, under every kind of rule, by every entry. What the gateway decides is
// compared with tables written by hand: nothing of ours reads a target or a rule here.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { TunnelError } from '../../protocol/errors.ts';
import type { Authenticator } from '../../server/auth/authenticator.ts';
import { addressCheck } from '../../server/dial/address-policy.ts';
import type { Dialer } from '../../server/dial/dialer.ts';
import { rulesPolicy } from '../../server/policy/rules.ts';
import type { RulesOptions } from '../../server/policy/rules.ts';
import { exchange, startParts, statusOf, tokenAuthenticator } from '../server/support/gateway-parts.ts';
import { plainHead, relayHead, upgradeHead, webSocketFields } from '../server/support/peers.ts';

/** What a spelling means: a name, an address that is allowed, one that is closed, or nothing at all. */
type Meaning =
  { readonly kind: 'name' | 'ordinary' | 'closed'; readonly host: string } | { readonly kind: 'nothing' };

const nothing: Meaning = { kind: 'nothing' };
const name = (host: string): Meaning => ({ kind: 'name', host });
const ordinary = (host: string): Meaning => ({ kind: 'ordinary', host });
const closed = (host: string): Meaning => ({ kind: 'closed', host });

const label63 = 'a'.repeat(63);

/** The host as it stands before `:port`, and what it means. */
const hosts: readonly (readonly [spelling: string, meaning: Meaning])[] = [
  ['box', name('box')],
  ['BOX', name('box')],
  ['bOx', name('box')],
  ['kit', name('kit')],
  ['localhost', name('localhost')],
  ['box-', name('box-')],
  ['bo_x', name('bo_x')],
  ['a.corp.example', name('a.corp.example')],
  ['A.Corp.EXAMPLE', name('a.corp.example')],
  ['x.y.corp.example', name('x.y.corp.example')],
  ['corp.example', name('corp.example')],
  ['xcorp.example', name('xcorp.example')],
  ['a.corp.example.evil.example', name('a.corp.example.evil.example')],
  ['a.xn--corp-example', name('a.xn--corp-example')],
  ['xn--bcher-kva.corp.example', name('xn--bcher-kva.corp.example')],
  [`${label63}.corp.example`, name(`${label63}.corp.example`)],
  ['10.0.0.5.corp.example', name('10.0.0.5.corp.example')],
  ['10.0.0.5', ordinary('10.0.0.5')],
  ['10.0.0.9', ordinary('10.0.0.9')],
  ['127.0.0.1', closed('127.0.0.1')],
  ['127.255.255.254', closed('127.255.255.254')],
  ['169.254.169.254', closed('169.254.169.254')],
  ['100.100.100.200', closed('100.100.100.200')],
  ['0.0.0.0', closed('0.0.0.0')],
  ['224.0.0.1', closed('224.0.0.1')],
  ['255.255.255.255', closed('255.255.255.255')],
  ['[fd12:3456::1]', ordinary('fd12:3456::1')],
  ['[FD12:3456:0:0::0001]', ordinary('fd12:3456::1')],
  ['[::ffff:10.0.0.5]', ordinary('::ffff:a00:5')],
  ['[64:ff9b::10.0.0.5]', ordinary('64:ff9b::a00:5')],
  ['[::1]', closed('::1')],
  ['[0:0:0:0:0:0:0:1]', closed('::1')],
  ['[::]', closed('::')],
  ['[::ffff:127.0.0.1]', closed('::ffff:7f00:1')],
  ['[::ffff:a9fe:a9fe]', closed('::ffff:a9fe:a9fe')],
  ['[::127.0.0.1]', closed('::7f00:1')],
  ['[64:ff9b::7f00:1]', closed('64:ff9b::7f00:1')],
  ['[2002:7f00:1::]', closed('2002:7f00:1::')],
  ['[2001:0:1:2:3:4:80ff:fffe]', closed('2001:0:1:2:3:4:80ff:fffe')],
  ['[fe80::1]', closed('fe80::1')],
  ['[ff02::1]', closed('ff02::1')],
  ['[fd00:ec2::254]', closed('fd00:ec2::254')],
  ...[
    'box.',
    'box..',
    '.box',
    'a..corp.example',
    'b\u00fccher.corp.example',
    'box\u3002corp.example',
    'bo\u00adx',
    'bo\u200dx',
    '\u212ait',
    '\uff11\uff12\uff17.0.0.1',
    '\u2460\u2461\u2466.\u24ea.\u24ea.\u2460',
    'box\0',
    'box\0.corp.example',
    'box\t',
    'bo x',
    'box\r\n',
    'box\n.corp.example',
    '%62ox',
    'box%2ecorp.example',
    'box%00.corp.example',
    'box%0d%0a',
    'a@box',
    'box@evil.example',
    'user:pw@box',
    '127.1',
    '0x7f.1',
    '0177.0.0.1',
    '127.0.0.01',
    '2130706433',
    '0x7f000001',
    '0',
    '127.0.0.1.',
    '256.0.0.1',
    '1.2.3.4.5',
    '[127.0.0.1]',
    '[fe80::1%25lo]',
    '[fe80::1%lo]',
    '[v1.box]',
    '[::1',
    '[::1]]',
    '[box]',
    '*',
    '*.corp.example',
    'box/..',
    '..',
    '%2e%2e',
    '../box',
    '/box',
    'box;a',
    'box?a',
    'box#a',
    'box\\a',
    'box,kit',
    'http://box',
    '-oProxyCommand=x',
    '$(id)',
    '',
    `${label63}a.corp.example`,
    `${`${label63}.`.repeat(4)}example`,
  ].map((spelling) => [spelling, nothing] as const),
];

/** The port as it is written, and the number it means, if any. */
const ports: readonly (readonly [spelling: string, port: number | undefined])[] = [
  ['22', 22],
  ['2222', 2222],
  ['1', 1],
  ['443', 443],
  ['65535', 65535],
  ['0', undefined],
  ['65536', undefined],
  ['65558', undefined],
  ['+22', undefined],
  ['022', undefined],
  ['', undefined],
  ['2\t2', undefined],
];

interface Regime {
  readonly name: string;
  readonly options: RulesOptions;
  /** The allowlist of the token itself. */
  readonly claim?: readonly string[];
  /** Where the gateway is allowed to connect for this target, as `host port`; undefined: it is denied. */
  readonly oracle: (host: string, port: number) => string | undefined;
}

const rule = {
  name: 'rule 1',
  groups: ['dev'],
  subjects: [] as string[],
  issuers: [] as string[],
  targets: [] as { host: string; port: number | '*' }[],
};
const asIs = (host: string, port: number): string => `${host} ${port}`;
const inCorp = ['a.corp.example', 'x.y.corp.example', 'xn--bcher-kva.corp.example', '10.0.0.5.corp.example'];
inCorp.push(`${label63}.corp.example`);

const regimes: readonly Regime[] = [
  { name: 'no rule', options: { rules: [], targets: [] }, oracle: () => undefined },
  {
    name: 'one name',
    options: { rules: [{ ...rule, targets: [{ host: 'box', port: 22 }] }], targets: [] },
    oracle: (host, port) => (host === 'box' && port === 22 ? 'box 22' : undefined),
  },
  {
    name: 'a wildcard below a suffix',
    options: { rules: [{ ...rule, targets: [{ host: '*.corp.example', port: '*' }] }], targets: [] },
    oracle: (host, port) => (inCorp.includes(host) ? asIs(host, port) : undefined),
  },
  {
    name: 'everything at one port',
    options: { rules: [{ ...rule, targets: [{ host: '*', port: 22 }] }], targets: [] },
    oracle: (host, port) => (port === 22 ? asIs(host, port) : undefined),
  },
  {
    name: 'everything',
    options: { rules: [{ ...rule, targets: [{ host: '*', port: '*' }] }], targets: [] },
    oracle: asIs,
  },
  {
    name: 'everything, for others',
    options: {
      rules: [
        { ...rule, groups: ['DEV', 'ops'], subjects: ['Alice'], targets: [{ host: '*', port: '*' }] },
        { ...rule, issuers: ['https://other.example'], targets: [{ host: '*', port: '*' }] },
      ],
      targets: [],
    },
    oracle: () => undefined,
  },
  {
    name: 'names that stand for addresses',
    options: {
      rules: [
        {
          ...rule,
          targets: [
            { host: 'box', port: '*' },
            { host: 'kit', port: '*' },
            { host: '10.0.0.5', port: 443 },
          ],
        },
      ],
      targets: [
        { name: 'box', host: '10.0.0.7', port: 2022 },
        { name: 'kit', host: '10.0.0.8' },
        { name: 'corp.example', host: '10.0.0.5', port: 22 },
      ],
    },
    oracle(host, port) {
      if (host === 'box') return port === 22 ? '10.0.0.7 2022' : undefined;
      if (host === 'kit') return `10.0.0.8 ${port}`;
      return host === '10.0.0.5' && port === 443 ? '10.0.0.5 443' : undefined;
    },
  },
  {
    name: 'a token that narrows',
    options: { rules: [{ ...rule, targets: [{ host: '*', port: '*' }] }], targets: [] },
    claim: ['box', '*.corp.example:443'],
    oracle(host, port) {
      const narrowed = (host === 'box' && port === 22) || (inCorp.includes(host) && port === 443);
      return narrowed ? asIs(host, port) : undefined;
    },
  },
  {
    name: 'two rules that together cover less than each pair of theirs',
    options: {
      rules: [
        { ...rule, targets: [{ host: 'corp.example', port: 22 }] },
        { ...rule, targets: [{ host: 'xcorp.example', port: 443 }] },
        { ...rule, targets: [{ host: '::ffff:a00:5', port: 22 }] },
      ],
      targets: [],
    },
    oracle: (host, port) =>
      ['corp.example 22', 'xcorp.example 443', '::ffff:a00:5 22'].find((each) => each === `${host} ${port}`),
  },
];

const good = 'Authorization: Bearer good\r\n';
const entries: Record<string, (host: string, port: string) => string> = {
  relay: (host, port) => relayHead(`${host}:${port}`, good),
  websocket: (host, port) => upgradeHead(`/ssh/tcp/${host}/${port}/`, 'websocket', webSocketFields + good),
  'connect-tcp': (host, port) =>
    upgradeHead(`/.well-known/masque/tcp/${host.replaceAll(':', '%3a')}/${port}/`, 'connect-tcp', good),
  http: (host, port) => plainHead(`${host}:${port}`, good),
  connect: (host, port) => `CONNECT ${host}:${port} HTTP/1.1\r\nHost: gw.example\r\n${good}\r\n`,
};

/** The gateway listens here too: never dialled, whatever the rules say. */
const own = { kind: 'tcp', host: '10.0.0.9', port: 443 } as const;

function expected(meaning: Meaning, port: number | undefined, regime: Regime): string {
  if (meaning.kind === 'nothing' || port === undefined) return 'not a target';
  const at = regime.oracle(meaning.host, port);
  if (at === undefined) return 'TARGET_DENIED';
  const isClosed = meaning.kind === 'closed' || at === `${own.host} ${own.port}`;
  return isClosed ? 'ADDRESS_DENIED' : `dialled ${at}`;
}

function decisionIn(answer: string): string {
  const status = statusOf(answer);
  if (status === 400 || status === 404) return 'not a target';
  const { code, detail } = JSON.parse(answer.slice(answer.indexOf('\r\n\r\n') + 4)) as {
    code: string;
    detail: string;
  };
  return code === 'DIAL_REFUSED' ? detail : code;
}

function authenticatorOf(claim: readonly string[] | undefined): Authenticator {
  return tokenAuthenticator(async () => ({
    issuer: 'https://id.example',
    subject: 'alice',
    groups: new Set(['dev']),
    issuedAt: new Date(),
    expiresAt: new Date(Date.now() + 60_000),
    ...(claim && { targets: claim }),
  }));
}

describe('the bypass matrix', () => {
  it('is as large as it claims to be', () => {
    assert.ok(hosts.length >= 60 && ports.length === 12 && regimes.length === 9);
    assert.equal(new Set(hosts.map(([spelling]) => spelling)).size, hosts.length);
  });

  for (const regime of regimes) {
    it(`decides as the tables do: ${regime.name}`, async () => {
      const dials: string[] = [];
      const check = addressCheck({ network: { allow: [], deny: [], nameServers: [] }, ownAddresses: [own] });
      // Stands where a connection or a DNS query would begin.
      const sentinel: Dialer = {
        async dial({ address: { host, port } }) {
          const isName = !host.includes(':') && !/^[\d.]+$/.test(host);
          if (!isName && !check(host, port).allowed) throw new TunnelError('ADDRESS_DENIED', 'closed');
          dials.push(`${host} ${port}`);
          throw new TunnelError('DIAL_REFUSED', `dialled ${host} ${port}`);
        },
      };
      const gateway = await startParts({
        policy: rulesPolicy(regime.options),
        authenticator: authenticatorOf(regime.claim),
        dialer: sentinel,
      });
      const cells = Object.entries(entries).flatMap(([entry, ask]) =>
        hosts.flatMap(([host, meaning]) =>
          ports.map(([port, number]) => ({ entry, host, port, meaning, number, request: ask(host, port) })),
        ),
      );
      // Short form: without the cells in which host and port are both nothing, 20,000 are left.
      const chosen = cells.filter(
        ({ meaning, number }) => process.env.POSTERN_LONG || meaning !== nothing || number !== undefined,
      );
      const due: string[] = [];
      const wrong: string[] = [];
      const waiting = chosen.values();
      const worker = async (): Promise<void> => {
        for (const { entry, host, port, meaning, number, request } of waiting) {
          const wanted = expected(meaning, number, regime);
          const decided = decisionIn(await exchange(gateway.port, Buffer.from(request)));
          if (wanted.startsWith('dialled ')) due.push(wanted.slice(8));
          if (decided !== wanted)
            wrong.push(`${entry} ${JSON.stringify([host, port])}: ${decided}, not ${wanted}`);
        }
      };
      await Promise.all(Array.from({ length: 24 }, worker));
      await gateway.close();
      assert.deepEqual(wrong.slice(0, 20), []);
      assert.deepEqual(dials.toSorted(), due.toSorted());
    });
  }
});
