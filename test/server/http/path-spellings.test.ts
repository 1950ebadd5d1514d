// SECURITY: every check that goes by a path reads it as the router behind it does. Each path of the gateway is requested in
// some 150 spellings; what answers has to be what its exact spelling names, and nothing otherwise.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, before, describe, it } from 'node:test';
import { LogController } from 'fastify';
import { oauthRoutes, targetOf } from '../../../server/login/authorization-server/routes.ts';
import { startGatewayApp } from '../support/gateway-app.ts';
import type { RunningGateway } from '../support/gateway-app.ts';
import { exchange } from '../support/gateway-parts.ts';
import { spellings } from '../support/spellings.ts';

// Without letters, so that another case of the path is no other parameter.
const uid = '0'.repeat(43);

const own: readonly (readonly [method: string, path: string])[] = [
  ['GET', '/'],
  ['GET', '/.well-known/postern'],
  ['GET', '/access'],
  ['GET', '/access/signed-in'],
  ['POST', '/access/end-session'],
  ['POST', '/access/ticket'],
  ['POST', '/sign-out'],
  ['GET', '/signed-out'],
  ['GET', `/sign-in/:uid`],
  ['POST', `/sign-in/:uid`],
  ['POST', `/sign-in/:uid/allow`],
  ['GET', `/sign-in/:uid/with/:provider`],
  ['GET', '/callback/:provider'],
  ['POST', '/back-channel-logout/:provider'],
  ['GET', '/api/access'],
  ['POST', '/api/tickets'],
  ['GET', '/api/measure'],
  ['POST', '/api/measure'],
  ['POST', '/http/connect'],
  ['POST', '/http/reconnect'],
  ['GET', '/http/down'],
  ['GET', '/http/brief'],
  ['POST', '/http/up'],
];
const oauth = oauthRoutes(true).map(({ method, path }) => [method, `/oauth${path}`] as const);
const routes = [...own, ...oauth].map(([method, path]) => ({
  method,
  path: `/ssh${path}`,
  sample: `/ssh${path}`.replace(':uid', uid).replace(':provider', '1'),
  exact: new RegExp(
    `^/ssh${path
      .replaceAll('.', '\\.')
      .replace(':uid', path.startsWith('/oauth') ? '[\\w-]{20,64}' : '[\\w.~-]+')
      .replace(':provider', '[\\w.~-]+')}$`,
  ),
}));

/** Whether a request target is the exact spelling of a route of that method, by the test's own reading. */
function names(target: string, method: string): boolean {
  if (!/^[!-~]+$/.test(target) || target.includes('#')) return false;
  const path = target.replace(/^https?:\/\/[^/?]*/i, '').split('?')[0]!;
  return routes.some(
    (route) =>
      route.exact.test(path) &&
      (route.method === method || (method === 'HEAD' && route.method === 'GET' && !path.includes('/http/'))),
  );
}

interface Seen {
  readonly method: string;
  readonly target: string;
  readonly status: number;
  readonly text: string;
}

/** Whether a part of the gateway has answered, rather than what refuses unknown and malformed paths. */
function isReached({ method, status, text }: Seen): boolean {
  const isProblem = /^content-type: application\/(?:problem\+)?json/im.test(text);
  if (status === 404) return !isProblem;
  if (status === 414) return false;
  if (status === 400 && method === 'HEAD') return !isProblem;
  return (
    status !== 400 ||
    !/not a valid (?:request target|HTTP request)|cannot read this request|FST_ERR|Client Error/.test(text)
  );
}

async function requestAll(port: number, requests: readonly (readonly [string, string])[]): Promise<Seen[]> {
  const seen: Seen[] = [];
  const queue = requests.values();
  const worker = async (): Promise<void> => {
    for (const [method, target] of queue) {
      const body = method === 'POST' ? 'Content-Length: 0\r\n' : '';
      const head = `${method} ${target} HTTP/1.1\r\nHost: gw.example\r\nConnection: close\r\n${body}\r\n`;
      const text = await exchange(port, Buffer.from(head, 'utf8'));
      seen.push({ method, target, text, status: Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1]) });
    }
  };
  await Promise.all(Array.from({ length: 8 }, worker));
  return seen;
}

const all = routes.flatMap(({ method, sample }) => [
  ...spellings(sample).map((target) => [method, target] as const),
  ...['GET', 'HEAD', 'POST', 'OPTIONS', 'PUT', 'DELETE', 'PATCH', 'TRACE', 'PROPFIND'].map(
    (other) => [other, sample] as const,
  ),
]);

/** The router of oidc-provider itself; the package has no types for it. */
async function routerOfProvider(): Promise<Routing> {
  const file = createRequire(import.meta.url).resolve('oidc-provider/lib/helpers/router.js');
  const { default: Router } = (await import(file)) as { default: new () => Routing };
  return new Router();
}

interface Routing {
  get(name: string, path: string, handler: () => void): void;
  post(name: string, path: string, handler: () => void): void;
  match(method: string, path: string): { readonly route: { readonly name: string } } | undefined;
}

const hosts: readonly (readonly [what: string, options: object | undefined, part: number])[] = [
  ['the gateway’s own server', undefined, 1],
  [
    'a server of another owner, which folds case and slashes',
    {
      logController: new LogController({ disableRequestLogging: true }),
      routerOptions: {
        caseSensitive: false,
        ignoreTrailingSlash: true,
        ignoreDuplicateSlashes: true,
        useSemicolonDelimiter: true,
      },
    },
    6,
  ],
];

for (const [what, options, part] of hosts) {
  describe(`${what} answers a path`, () => {
    let gateway: RunningGateway;
    let seen: Seen[];
    before(async () => {
      gateway = await startGatewayApp({ signIn: { deviceFlow: true } }, options);
      seen = await requestAll(
        gateway.port,
        all.filter((_, at) => at % part === 0),
      );
    });
    after(() => gateway.close());

    it('in its exact spelling, and in no other', () => {
      assert.ok(seen.length > 900, String(seen.length));
      const wrong = seen.filter((each) => isReached(each) !== names(each.target, each.method));
      assert.deepEqual(
        wrong.map(({ method, target, status }) => `${method} ${target.slice(0, 120)} ${status}`),
        [],
      );
      assert.ok(seen.filter(isReached).length > routes.length / part);
    });

    it('without failing, and with one line in the log at most', () => {
      assert.deepEqual(
        seen
          .filter(({ status }) => !(status >= 200 && status < 500))
          .map(({ method, target, status }) => `${method} ${target} ${status}`),
        [],
      );
      assert.deepEqual(
        gateway.lines.filter(({ level }) => level >= 50),
        [],
      );
      assert.ok(gateway.lines.length <= seen.length + 10);
    });
  });
}

describe('oidc-provider’s router', async () => {
  const table = oauthRoutes(true);
  const router = await routerOfProvider();
  for (const { method, path } of table) {
    if (method === 'GET') router.get(`${method} ${path}`, path, () => {});
    else router.post(`${method} ${path}`, path, () => {});
  }

  for (const route of table) {
    it(`takes what ${route.method} ${route.path} becomes for that route`, () => {
      const target = targetOf(route, { uid, query: 'user_code=BBBB-BBBB&USER%5fcode=x' });
      assert.equal(
        router.match(route.method, target.split('?')[0]!)?.route.name,
        `${route.method} ${route.path}`,
      );
      assert.equal(target.includes('?'), route.path === '/auth', 'no other route has a query');
    });
  }

  it('would take many other spellings, none of which reach it', () => {
    const others = table
      .flatMap(({ path }) => spellings(path.replace(':uid', uid)))
      .map((target) => target.split('?')[0]!)
      .filter((path) => router.match('GET', path) ?? router.match('POST', path))
      .filter((path) => !names(`/ssh/oauth${path}`, 'GET') && !names(`/ssh/oauth${path}`, 'POST'));
    assert.ok(new Set(others).size > 30, String(new Set(others).size));
  });
});
