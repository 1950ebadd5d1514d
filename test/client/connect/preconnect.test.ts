import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { gatewayRoute } from '../../../client/connect/gateway-route.ts';
import { preconnect } from '../../../client/connect/preconnect.ts';
import { readSettings } from '../../../client/settings.ts';
import type { ClientSettings } from '../../../client/settings.ts';
import { listen, temporaryDirectory } from '../support.ts';

/** The settings of a client in an empty home, whose gateway accepts connections. */
async function settingsOf(t: TestContext, env: Record<string, string>) {
  const server = createServer((socket) => void socket.on('error', () => {}).resume());
  const url = `https://127.0.0.1:${await listen(t, server)}/ssh/`;
  const settings = readSettings({}, { HOME: temporaryDirectory(t), POSTERN_GATEWAY: url, ...env });
  return { server, settings };
}

function begin(settings: ClientSettings) {
  return preconnect(settings, gatewayRoute(settings));
}

describe('preconnect()', () => {
  it('connects where there is a token and no proxy', async (t) => {
    const { server, settings } = await settingsOf(t, { POSTERN_TOKEN: 't0ken' });
    const early = begin(settings);
    await once(server, 'connection');
    early!.stop();
  });

  for (const [what, env] of [
    ['without a credential', {}],
    ['through a proxy', { POSTERN_TOKEN: 't0ken', HTTPS_PROXY: 'http://p:3128' }],
    ['where a PAC file decides', { POSTERN_TOKEN: 't0ken', POSTERN_PAC: '/proxy.pac' }],
    [
      'where HTTP_PROXY is tried first',
      { POSTERN_TOKEN: 't0ken', HTTP_PROXY: 'http://p:3128', POSTERN_SYSTEM_PROXY: '0' },
    ],
  ] as const) {
    it(`connects nowhere ${what}`, async (t) => {
      const { settings } = await settingsOf(t, env);
      const early = begin(settings);
      early?.stop();
      assert.equal(early, undefined);
    });
  }
});

const client = join(import.meta.dirname, '../../../client');

/** The packages and modules of Node.js that this file and all its static imports load. */
function loaded(file: string, seen = new Set<string>()): ReadonlySet<string> {
  if (seen.has(file)) return seen;
  seen.add(file);
  if (!file.startsWith('/')) return seen;
  for (const [, name] of readFileSync(file, 'utf8').matchAll(
    /^(?:import|export) (?!type\b)[^;]*? from '([^']+)';/gm,
  ))
    loaded(name!.startsWith('.') ? join(dirname(file), name!) : name!, seen);
  return seen;
}

describe('the first half of the start of connect', () => {
  it('loads neither TLS, nor HTTP, nor cryptography, nor packages', () => {
    const modules = [...loaded(join(client, 'commands/connect.ts'))].filter((name) => !name.startsWith('/'));
    assert.ok(modules.includes('node:net'));
    assert.deepEqual(
      modules.filter(
        (name) => !name.startsWith('node:') || /^node:(?:tls|https?|crypto|zlib|stream)/.test(name),
      ),
      [],
    );
  });

  it('leaves them to the second half', () => {
    const second = loaded(join(client, 'connect/run-tunnel.ts'));
    assert.ok(second.has('node:tls') && second.has('node:crypto'));
  });
});
