import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer as createRawServer } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';
import { evaluatePac, parsePacResult, readPac } from '../../../../client/egress/pac/pac.ts';
import type { TrustSources } from '../../../../client/egress/tls/tls.ts';
import { hopName } from '../../../../client/egress/proxy/proxy-url.ts';
import { authority, certificate, key } from '../../certificates.ts';
import { closedPort, listen, temporaryDirectory } from '../../support.ts';

const never = new AbortController().signal;
const gateway = { host: 'gw.example', port: 443 };

/** The hops by the PAC file at a location, and what is wrong with its answer. */
async function answerOf(
  location: string,
  { trust = {}, signal = never }: { readonly trust?: TrustSources; readonly signal?: AbortSignal } = {},
): Promise<string> {
  const { hops, problem } = await evaluatePac(await readPac(location, trust, signal), gateway, signal);
  return hops.map(hopName).join(' ') + (problem === undefined ? '' : ` (${problem})`);
}

function pacFile(t: TestContext, script: string): string {
  const path = join(temporaryDirectory(t), 'proxy.pac');
  writeFileSync(path, script);
  return path;
}

const answering = (body: string): string => `function FindProxyForURL(url, host) { ${body} }`;

describe('parsePacResult()', () => {
  for (const [said, expected] of [
    ['DIRECT', 'direct'],
    ['', 'direct'],
    [' ; ', 'direct'],
    ['PROXY a:3128', 'http://a:3128'],
    ['PROXY a', 'http://a:80'],
    ['proxy a:1;HTTPS b:2 ; DIRECT', 'http://a:1 https://b:2 direct'],
    ['SOCKS a', 'socks4a://a:1080'],
    ['SOCKS4 a:1; SOCKS5 [::1]:2', 'socks4a://a:1 socks5h://[::1]:2'],
    ['QUIC a:1; PROXY b:1', 'http://b:1'],
    ['PROXY u:p@a:1; DIRECT', 'direct'],
    ['PROXY a b; DIRECT', 'direct'],
    ['PROXY http://a:1; PROXY a:1/x; PROXY a:1#b; PROXY a\\b:1; DIRECT', 'direct'],
    ['QUIC a:1', ''],
    ['PROXY', ''],
    ['<html>', ''],
    ['PROXY a:99999', ''],
  ] as const) {
    it(`reads ${JSON.stringify(said)}`, () => {
      assert.equal(parsePacResult(said).map(hopName).join(' '), expected);
    });
  }

  it('takes no more than a few', () => assert.equal(parsePacResult('PROXY a:1;'.repeat(1000)).length, 8));
});

describe('evaluatePac()', () => {
  for (const [what, body, expected] of [
    ['a switch by host', `return dnsDomainIs(host, '.example') ? 'PROXY a:1' : 'DIRECT';`, 'http://a:1'],
    [
      'the URL without its path',
      `return url === 'https://gw.example/' ? 'PROXY a:1' : 'DIRECT';`,
      'http://a:1',
    ],
    [
      'shell patterns',
      `return shExpMatch(host, 'gw.*') ? 'PROXY a:1; DIRECT' : 'DIRECT';`,
      'http://a:1 direct',
    ],
    [
      'its own address',
      `return isInNet(myIpAddress(), '0.0.0.0', '0.0.0.0') ? 'PROXY a:1' : '';`,
      'http://a:1',
    ],
    [
      'a net of 127',
      `return isInNet('127.0.0.1', '127.0.0.0', '255.0.0.0') ? 'PROXY a:1' : '';`,
      'http://a:1',
    ],
    ['a name that is not known', `return isResolvable('nowhere.invalid') ? '' : 'PROXY a:1';`, 'http://a:1'],
    ['alert(), which says nothing', `alert('canary'); return 'PROXY a:1';`, 'http://a:1'],
    ['no answer', `return null;`, 'direct (the PAC file returned something else than text)'],
    ['one that throws', `throw new Error('no');`, 'direct (the PAC file failed: no)'],
    [
      'one that names nothing known',
      `return 'CARRIER-PIGEON a:1'`,
      'direct (the PAC file names no supported proxy)',
    ],
    [
      'one that looks for what is outside',
      `return process.env.HOME;`,
      'direct (the PAC file failed: process is not defined)',
    ],
    [
      'one that looks for what is outside by another way',
      `return this.constructor.constructor('return process')().pid;`,
      'direct (the PAC file failed: process is not defined)',
    ],
  ] as const) {
    it(`knows ${what}`, async (t) => {
      assert.equal(await answerOf(pacFile(t, answering(body))), expected);
    });
  }

  for (const [what, body] of [
    ['takes all memory', `var all = 'x'; for (;;) all += all;`],
    ['calls itself for ever', `return FindProxyForURL(url, host);`],
    ['takes much memory at once', `return new ArrayBuffer(1e9).byteLength + '';`],
  ] as const) {
    it(`connects directly with a file that ${what}`, async (t) => {
      assert.match(await answerOf(pacFile(t, answering(body))), /^direct \(the PAC file failed: ./);
    });
  }

  it('takes a file by its URL', async (t) => {
    const url = pathToFileURL(pacFile(t, answering(`return 'PROXY a:1'`))).href;
    assert.equal(await answerOf(url), 'http://a:1');
  });

  for (const [what, script] of [
    ['never ends', answering('for (;;);')],
    ['is no JavaScript', '<html>sign in</html>'],
    ['has no function', 'var x = 1;'],
    ['is empty', ''],
  ] as const) {
    it(`ends in good time with a file that ${what}`, async (t) => {
      await assert.rejects(answerOf(pacFile(t, script)), { code: 'PAC_FAILED' });
    });
  }

  it('ends when time is up', async (t) => {
    const signal = AbortSignal.timeout(50);
    const path = pacFile(t, 'for (;;);');
    await assert.rejects(answerOf(path, { signal }), { code: 'PAC_FAILED' });
  });

  it('ends when time was up before', async (t) => {
    const path = pacFile(t, answering(`return 'PROXY a:1'`));
    const signal = AbortSignal.abort();
    await assert.rejects(answerOf(path, { signal }), { code: 'PAC_FAILED' });
  });

  for (const location of ['/does/not/exist', 'proxy.pac', 'ftp://a/proxy.pac', '/dev/zero']) {
    it(`cannot read ${location}`, async () => {
      await assert.rejects(answerOf(location), { code: 'PAC_FAILED' });
    });
  }
});

describe('evaluatePac() of a web server', () => {
  const script = answering(`return 'PROXY a:1'`);
  type Answer = (request: IncomingMessage, response: ServerResponse) => void;

  async function steps(t: TestContext, answer: Answer, path = '/proxy.pac?secret'): Promise<string> {
    const port = await listen(t, createServer(answer));
    return answerOf(`http://127.0.0.1:${port}${path}`);
  }

  it('takes it whatever it is called', async (t) => {
    assert.equal(await steps(t, (_, response) => response.end(script)), 'http://a:1');
  });

  it('follows where it is sent', async (t) => {
    const found = await steps(t, ({ url }, response) => {
      if (url === '/new') response.end(script);
      else response.writeHead(302, { Location: '/new' }).end();
    });
    assert.equal(found, 'http://a:1');
  });

  it('takes it by https, with the trust that is given', async (t) => {
    const caFile = join(temporaryDirectory(t), 'ca.pem');
    writeFileSync(caFile, authority);
    const port = await listen(
      t,
      createTlsServer({ key, cert: certificate }, (_, response) => response.end(script)),
    );
    const url = `https://localhost:${port}/`;
    assert.equal(await answerOf(url, { trust: { caFile } }), 'http://a:1');
    await assert.rejects(answerOf(url), { code: 'PAC_FAILED' });
  });

  for (const [what, answer] of [
    ['knows nothing of it', (_, response) => response.writeHead(404).end(script)],
    ['sends us around', (_, response) => response.writeHead(302, { Location: '/' }).end()],
    [
      'sends us to a file',
      (_, response) => response.writeHead(302, { Location: 'file:///etc/passwd' }).end(),
    ],
    [
      'sends without end',
      (_, response) => {
        const send = (): void => void response.write(Buffer.alloc(65_536), (error) => error ?? send());
        send();
      },
    ],
    ['sends a page to sign in', (_, response) => response.end('<html>')],
  ] as const satisfies readonly (readonly [string, Answer])[]) {
    it(`ends with one that ${what}`, async (t) => {
      await assert.rejects(steps(t, answer), (error: Error & { code: string }) => {
        return error.code === 'PAC_FAILED' && !error.message.includes('secret');
      });
    });
  }

  it('ends when a server never answers', async (t) => {
    const port = await listen(t, createRawServer());
    const signal = AbortSignal.timeout(50);
    await assert.rejects(answerOf(`http://127.0.0.1:${port}/`, { signal }), {
      code: 'PAC_FAILED',
    });
  });

  it('ends when nothing listens', async () => {
    await assert.rejects(answerOf(`http://127.0.0.1:${await closedPort()}/`), {
      code: 'PAC_FAILED',
    });
  });
});

const isAble = spawnSync('unshare', ['--net', 'ip', 'link']).status === 0;

describe('myIpAddress()', { skip: !isAble && 'no namespaces here' }, () => {
  const module = new URL('../../../../client/egress/pac/pac.ts', import.meta.url).href;

  /** What a PAC file says of the address in a namespace with these. */
  function said(t: TestContext, ...commands: readonly string[]): string {
    const path = pacFile(t, answering(`return 'PROXY ' + myIpAddress();`));
    const ask = `const { evaluatePac, readPac } = await import(${JSON.stringify(module)});
      const gateway = { host: 'gw.example', port: 443 };
      const signal = new AbortController().signal;
      const script = await readPac(${JSON.stringify(path)}, {}, signal);
      console.log((await evaluatePac(script, gateway, signal)).hops[0].address.host);`;
    const all = ['link add p0 type veth peer name p1', 'link set p0 up', 'link set p1 up', ...commands];
    const script = `${all.map((command) => `ip ${command}`).join(' && ')} && exec "$0" --input-type=module -e "$1"`;
    const argv = ['--net', 'sh', '-c', script, process.execPath, ask];
    return spawnSync('unshare', argv, { encoding: 'utf8' }).stdout.trim();
  }

  it('is the one that packets to the internet come from', (t) => {
    const addresses = ['addr add 192.0.2.130/25 dev p0', 'addr add 198.51.100.7/24 dev p1'];
    assert.equal(said(t, ...addresses, 'route add default via 198.51.100.1'), '198.51.100.7');
  });

  it('is the one there is where nothing leads to the internet', (t) => {
    assert.equal(said(t, 'addr add 198.51.100.7/24 dev p1'), '198.51.100.7');
  });
});
