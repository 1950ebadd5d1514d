import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { createServer as createTlsServer } from 'node:tls';
import { basic } from '../client/egress/proxy-auth/basic.ts';
import { parseChallenges } from '../client/egress/proxy-auth/challenge.ts';
import type { ProxyCredentials } from '../client/egress/proxy-auth/credentials.ts';
import { digest } from '../client/egress/proxy-auth/digest.ts';
import { ntlm } from '../client/egress/proxy-auth/ntlm.ts';
import type { AuthExchange } from '../client/egress/proxy-auth/scheme.ts';
import { Secret } from '../protocol/secret.ts';
import { makeCertificates } from '../test/e2e/support/certificates.ts';
import type { Environment } from '../test/e2e/support/process.ts';
import { startSquid } from '../test/e2e/support/proxies.ts';
import { Scratch } from '../test/e2e/support/scratch.ts';
import { startBasicSquid, startDigestSquid, startNtlmSquid } from '../test/e2e/support/sign-in-proxies.ts';
import { firstByte } from './connect.ts';
import { median, quantile } from './support/figure.ts';
import type { Effort, Figure, Row } from './support/figure.ts';
import { startGateway } from './support/gateway.ts';
import { token } from './support/tokens.ts';

type SignInRow = Row<'medianMs' | 'p90Ms'>;

/** What a proxy that wants a sign-in costs `postern connect`, besides the round trips that the proxy asks for. */
export const proxySignIns = {
  name: 'proxy-sign-in',
  title: 'postern connect through squid, from its start to the first byte of the target',
  columns: { medianMs: ['median ms', 1], p90Ms: ['p90 ms', 1] },
  measure: run,
} as const satisfies Figure<keyof SignInRow['values']>;

/** A variant through squid: its port, the environment of the client, and the same authentication without the client. */
interface SchemeVariant {
  readonly name: string;
  readonly port: number;
  readonly env: Environment;
  readonly talk?: () => AuthExchange;
}

async function run({ quick, folder }: Effort): Promise<readonly SignInRow[]> {
  const scratch = new Scratch();
  const target = createServer((socket) => void socket.on('error', () => {}).write('!'));
  target.listen(0, '127.0.0.1');
  await once(target, 'listening');
  const gateway = await startGateway(folder, (target.address() as AddressInfo).port);
  const certificates = await makeCertificates(scratch);
  const [key, cert] = [certificates.keyFile, certificates.certificateFile].map((file) => readFileSync(file));
  const front = createTlsServer({ key, cert }, (socket) => {
    const upstream = connect(gateway.port, '127.0.0.1');
    socket.on('error', () => upstream.destroy());
    upstream.on('error', () => socket.destroy());
    socket.pipe(upstream).pipe(socket);
  });
  front.listen(0, '127.0.0.1');
  await once(front, 'listening');
  const { port } = front.address() as AddressInfo;
  try {
    const authority = `gw.example:${port}`;
    const variants = await startProxies(scratch, port, authority);
    const env = clientEnvironment(folder, `https://${authority}/ssh/`, certificates.authorityFile);
    const times = new Map(
      variants.map((variant) => [variant, { whole: [] as number[], own: [] as number[] }]),
    );
    const measure = async (variant: SchemeVariant): Promise<readonly [whole: number, own: number]> => {
      const whole = await firstByte({
        ...env,
        HTTPS_PROXY: `http://127.0.0.1:${variant.port}`,
        ...variant.env,
      });
      return [whole, await roundTrips(variant.port, authority, variant.talk?.())];
    };
    // Remembers which entry works, and warms the caches and the helpers of squid.
    for (const variant of variants)
      for (let index = 0; index < (quick ? 1 : 3); index++) await measure(variant);
    for (let round = 0; round < (quick ? 4 : 60); round++) {
      // Each begins as often as the others, so that what one leaves warm for the next falls on all.
      for (let index = 0; index < variants.length; index++) {
        const variant = variants[(index + round) % variants.length]!;
        const [whole, own] = await measure(variant);
        times.get(variant)!.whole.push(whole);
        times.get(variant)!.own.push(own);
      }
    }
    const without = times.get(variants[0]!)!;
    return variants.flatMap((variant) => {
      const { whole, own } = times.get(variant)!;
      const added = whole.map((time, at) => time - without.whole[at]! - (own[at]! - without.own[at]!));
      if (variant.talk === undefined) return [row(variant.name, whole)];
      return [
        row(variant.name, whole),
        row(
          `${variant.name}: the proxy's own round trips`,
          own.map((time, at) => time - without.own[at]!),
        ),
        row(`${variant.name}: added to them, round by round`, added),
      ];
    });
  } finally {
    gateway.child.kill('SIGKILL');
    target.close();
    front.close();
    await scratch.end();
  }
}

function row(what: string, times: readonly number[]): SignInRow {
  return { what, values: { medianMs: median(times), p90Ms: quantile(times, 0.9) } };
}

async function startProxies(
  scratch: Scratch,
  allowedPort: number,
  authority: string,
): Promise<SchemeVariant[]> {
  const plan = { address: '127.0.0.1', allowedPort };
  const open = await startSquid(scratch, allowedPort, { name: 'squid-open', signIn: [] });
  const variants: SchemeVariant[] = [
    { name: 'without authentication', port: Number(new URL(open.url).port), env: {} },
  ];
  const asking = { proxyHost: '127.0.0.1', authority };
  const starts = [
    ['Basic', startBasicSquid, basic],
    ['Digest', startDigestSquid, (account: ProxyCredentials) => digest(account, asking)],
    ['NTLM', startNtlmSquid, (account: ProxyCredentials) => ntlm(account)],
  ] as const;
  for (const [name, start, begin] of starts) {
    const { port, env } = await start(scratch, plan);
    const user = env['POSTERN_PROXY_USER']!;
    const account = { user, password: new Secret(env['POSTERN_PROXY_PASSWORD']!), source: 'bench' };
    variants.push({ name, port, env, talk: () => begin(account) });
  }
  return variants;
}

function clientEnvironment(folder: string, gateway: string, authorityFile: string): Record<string, string> {
  const home = join(folder, 'home');
  const file = join(home, 'token');
  mkdirSync(home);
  writeFileSync(file, token({}), { mode: 0o600 });
  return {
    HOME: home,
    PATH: process.env['PATH']!,
    POSTERN_TOKEN_FILE: file,
    POSTERN_GATEWAY: gateway,
    POSTERN_CA_FILE: authorityFile,
    POSTERN_NO_INPUT: '1',
  };
}

/** How long the requests of one sign-in take on a bare connection: connecting, each leg, and the 200. */
async function roundTrips(port: number, authority: string, talk: AuthExchange | undefined): Promise<number> {
  const startedAt = performance.now();
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  socket.setEncoding('latin1');
  let authorization = '';
  for (;;) {
    socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${authorization}\r\n`);
    const head = await readAnswer(socket);
    if (/^HTTP\/1\.\d 200 /.test(head)) break;
    const offers = [...head.matchAll(/^Proxy-Authenticate: (.*)$/gim)].map(([, offer]) => offer!);
    const answer = await talk!.answer(parseChallenges(offers));
    authorization = `Proxy-Authorization: ${answer}\r\n`;
  }
  const time = performance.now() - startedAt;
  socket.destroy();
  return time;
}

/** The head of an answer, when its body has come too. */
async function readAnswer(socket: ReturnType<typeof connect>): Promise<string> {
  let text = '';
  for (;;) {
    const end = text.indexOf('\r\n\r\n');
    const head = text.slice(0, end);
    const length = Number(/^Content-Length: (\d+)$/im.exec(head)?.[1] ?? 0);
    if (end !== -1 && text.length >= end + 4 + length) return head;
    const [chunk] = (await once(socket, 'data')) as [string];
    text += chunk;
  }
}
