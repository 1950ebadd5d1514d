import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { createServer as createTlsServer } from 'node:tls';
import { direct } from '../../../../client/egress/direct.ts';
import { loadTrust, secureEgress } from '../../../../client/egress/tls/tls.ts';
import { authority, certificate, expiredCertificate, key, otherCertificate } from '../../certificates.ts';
import { closedPort, listen, temporaryDirectory } from '../../support.ts';

const never = new AbortController().signal;

describe('secureEgress()', () => {
  for (const host of ['localhost', '127.0.0.1']) {
    it(`reaches ${host} with the right certificate, HTTP/1.1 only`, async (t) => {
      const ca = join(temporaryDirectory(t), 'ca.pem');
      writeFileSync(ca, `some text\n${authority}`);
      const server = createTlsServer(
        { key, cert: certificate, ALPNProtocols: ['h2', 'http/1.1'] },
        (socket) => socket.end(String(socket.alpnProtocol)),
      );
      const port = await listen(t, server);
      const socket = await secureEgress(direct, { caFile: ca }).connect({ host, port }, never);
      const chunks = await socket.toArray();
      assert.equal(Buffer.concat(chunks).toString(), 'http/1.1');
      socket.destroy();
    });
  }

  for (const [what, cert] of [
    ['another name', otherCertificate],
    ['the past', expiredCertificate],
  ] as const) {
    it(`refuses a certificate for ${what}`, async (t) => {
      const ca = join(temporaryDirectory(t), 'ca.pem');
      writeFileSync(ca, authority);
      const port = await listen(t, createTlsServer({ key, cert }));
      const target = { host: 'localhost', port };
      await assert.rejects(secureEgress(direct, { caFile: ca }).connect(target, never), {
        code: 'TLS_FAILED',
      });
    });
  }

  it('names the issuer it does not trust: that is how an inspecting proxy shows', async (t) => {
    const port = await listen(t, createTlsServer({ key, cert: certificate }));
    await assert.rejects(secureEgress(direct, {}).connect({ host: 'localhost', port }, never), {
      code: 'TLS_FAILED',
      message: /"Example Inspection CA"/,
      hint: /--ca-file/,
    });
  });

  it('checks certificates whatever the environment says', async (t) => {
    const port = await listen(t, createTlsServer({ key, cert: certificate }));
    process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0';
    t.after(() => delete process.env['NODE_TLS_REJECT_UNAUTHORIZED']);
    const opened = secureEgress(direct, {}).connect({ host: 'localhost', port }, never);
    await assert.rejects(opened, { code: 'TLS_FAILED' });
  });

  for (const answer of [
    'HTTP/1.1 400 Bad Request\r\n\r\n',
    'SSH-2.0-x\r\n',
    '',
    '\x15\x03\x01\x00\x02\x02\x28',
  ]) {
    it(`refuses ${JSON.stringify(answer)} in place of a handshake`, async (t) => {
      const port = await listen(
        t,
        createServer((socket) => {
          socket.once('data', () => socket.end(answer, 'latin1'));
        }),
      );
      const target = { host: 'localhost', port };
      await assert.rejects(secureEgress(direct, {}).connect(target, never), { code: 'TLS_FAILED' });
    });
  }

  it('does not wait for a silent peer when time is up', async (t) => {
    const port = await listen(t, createServer());
    const target = { host: 'localhost', port };
    await assert.rejects(secureEgress(direct, {}).connect(target, AbortSignal.timeout(50)), {
      code: 'GATEWAY_TIMEOUT',
    });
  });

  it('does not begin when time is up already', async (t) => {
    const port = await listen(t, createServer());
    const opened = direct.connect({ host: 'localhost', port }, AbortSignal.abort());
    await assert.rejects(opened, { code: 'GATEWAY_TIMEOUT' });
  });

  it('says when nothing listens', async () => {
    const port = await closedPort();
    await assert.rejects(direct.connect({ host: '127.0.0.1', port }, never), { code: 'GATEWAY_UNREACHABLE' });
  });
});

describe('loadTrust()', () => {
  for (const content of [
    '',
    'hello',
    '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n',
    key,
  ]) {
    it(`refuses a file with ${JSON.stringify(content.slice(0, 30))}`, (t) => {
      const path = join(temporaryDirectory(t), 'ca.pem');
      writeFileSync(path, content);
      assert.throws(() => loadTrust(path), { code: 'CONFIG_INVALID' });
    });
  }

  it('refuses a file that is not there', () => {
    assert.throws(() => loadTrust('/does/not/exist'), { code: 'CONFIG_INVALID' });
  });

  it('adds to the usual roots', (t) => {
    const path = join(temporaryDirectory(t), 'ca.pem');
    writeFileSync(path, authority);
    assert.ok(loadTrust(path)!.length > 50);
  });
});
