// A gateway as the client sees it, as a process of its own: sign-in by oidc-provider, the API, and a tunnel that echoes.
// Its options are JSON in the first argument; it prints its port. It checks tokens and proofs by itself, with jose.
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import {
  calculateJwkThumbprint,
  createLocalJWKSet,
  EmbeddedJWK,
  exportJWK,
  generateKeyPair,
  jwtVerify,
} from 'jose';
import type { JWTPayload } from 'jose';
import { Provider } from 'oidc-provider';
import type { Configuration } from 'oidc-provider';
import { WebSocketServer } from 'ws';
import { eofSubprotocol, webSocketStream } from '../../../stream/websocket-stream.ts';
import type { GatewayCounts, GatewayProcessOptions } from './gateway.ts';

const options = JSON.parse(process.argv[2] ?? '{}') as GatewayProcessOptions;
if (options.clockAheadMs !== undefined) shiftClock(options.clockAheadMs);
const prefix = '/ssh/';
const counts: GatewayCounts = { authorizations: 0, tokens: {}, tunnels: 0, refused: [], revocations: 0 };
const server = createServer({ maxHeaderSize: 32 * 1024 });
await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
const { port } = server.address() as AddressInfo;
const origin = `http://127.0.0.1:${port}`;
const issuer = `${origin}${prefix}oauth`;

const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true });
const jwk = { ...(await exportJWK(privateKey)), kid: 'one', alg: 'ES256', use: 'sig' };
const jwks = createLocalJWKSet({ keys: [{ ...(await exportJWK(publicKey)), kid: 'one', alg: 'ES256' }] });
const resource = `${origin}${prefix}`;
const accessSeconds = options.accessSeconds ?? 600;
const ended = new Set<string>();

const configuration = {
  clients: [
    {
      client_id: 'postern',
      application_type: 'native',
      token_endpoint_auth_method: 'none',
      response_types: ['code'],
      grant_types: [
        'authorization_code',
        'refresh_token',
        ...(options.deviceFlow ? ['urn:ietf:params:oauth:grant-type:device_code'] : []),
      ],
      redirect_uris: ['http://127.0.0.1/'],
      dpop_bound_access_tokens: true,
    },
  ],
  jwks: { keys: [jwk] },
  cookies: { keys: ['test'] },
  scopes: ['openid'],
  routes: { authorization: '/auth', token: '/token', jwks: '/jwks', code_verification: '/device' },
  pkce: { required: () => true },
  issueRefreshToken: () => true,
  rotateRefreshToken: true,
  expiresWithSession: () => false,
  clientDefaults: { id_token_signed_response_alg: 'ES256' },
  enabledJWA: { idTokenSigningAlgValues: ['ES256'], dPoPSigningAlgValues: ['ES256'] },
  extraTokenClaims: (_context: unknown, token: { grantId?: string }) => ({
    sid: token.grantId,
    groups: ['dev'],
  }),
  findAccount: (_context: unknown, id: string) => ({ accountId: id, claims: () => ({ sub: id }) }),
  ttl: { AccessToken: accessSeconds, DeviceCode: options.deviceSeconds ?? 600 },
  features: {
    dPoP: {
      enabled: true,
      ...(options.requireNonce && { nonceSecret: Buffer.alloc(32, 1), requireNonce: () => true }),
    },
    revocation: { enabled: true, allowedPolicy: () => true },
    userinfo: { enabled: false },
    deviceFlow: { enabled: options.deviceFlow === true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => resource,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: '',
        audience: 'postern',
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'ES256', kid: 'one' } },
      }),
    },
  },
};
const provider = new Provider(issuer, configuration as unknown as Configuration);
provider.on('authorization.accepted', () => counts.authorizations++);
provider.on('grant.revoked', (_context: unknown, id: string) => {
  counts.revocations++;
  ended.add(id);
});
provider.on('grant.success', (context) => {
  const kind = String(context.oidc.params?.['grant_type']);
  counts.tokens[kind] = (counts.tokens[kind] ?? 0) + 1;
});
const clientPrototype = (
  provider.Client as unknown as { prototype: { redirectUriAllowed(uri: string): boolean } }
).prototype;
clientPrototype.redirectUriAllowed = (uri) => /^http:\/\/127\.0\.0\.1:\d+\/[\w-]+$/.test(uri);
const authorize = provider.callback();

/** For this whole process, as a wrong clock would be. */
function shiftClock(aheadMs: number): void {
  const { now } = Date;
  globalThis.Date = class extends Date {
    static override now = (): number => now() + aheadMs;
    constructor(...args: [] | [number | string | Date]) {
      super(args.length === 0 ? now() + aheadMs : args[0]);
    }
  } as DateConstructor;
}

/** Who shows this request a token, with its proof when it is bound. Throws what is wrong. */
async function principal(request: IncomingMessage): Promise<JWTPayload> {
  const [scheme, token = ''] = (request.headers.authorization ?? '').split(' ');
  const { payload } = await jwtVerify(token, jwks, { issuer, audience: 'postern', typ: 'at+jwt' });
  if (ended.has(payload['sid'] as string)) throw new Error('the sign-in has ended');
  if (options.refuseTokens?.includes(counts.refused.length)) throw new Error('out of a whim');
  if (scheme !== 'DPoP') throw new Error('no DPoP');
  const proof = request.headers['dpop'] as string;
  const { payload: claims, protectedHeader } = await jwtVerify(proof, EmbeddedJWK, {
    typ: 'dpop+jwt',
    algorithms: ['ES256'],
  });
  const { jkt } = payload['cnf'] as { jkt: string };
  if ((await calculateJwkThumbprint(protectedHeader.jwk!)) !== jkt) throw new Error('another key');
  const htu = `${origin}${request.url!.split('?')[0]}`;
  if (claims['htm'] !== request.method || claims['htu'] !== htu) throw new Error('htm, htu');
  if (claims['ath'] !== createHash('sha256').update(token).digest('base64url')) throw new Error('ath');
  if (Math.abs(claims.iat! - Date.now() / 1000) > 60) throw new Error('iat');
  if (options.tunnelNonce !== undefined && claims['nonce'] !== options.tunnelNonce) throw new Error('nonce');
  if (seen.has(claims.jti!)) throw new Error('replay');
  seen.add(claims.jti!);
  return payload;
}
const seen = new Set<string>();

function problem(error: unknown): [head: Record<string, string>, body: string] {
  counts.refused.push((error as Error).message);
  const { tunnelNonce } = options;
  const head = {
    'Content-Type': 'application/problem+json',
    Date: new Date().toUTCString(),
    Connection: 'close',
    ...(tunnelNonce !== undefined && { 'DPoP-Nonce': tunnelNonce }),
  };
  return [head, JSON.stringify({ code: 'TOKEN_INVALID', detail: 'no valid token' })];
}

function json(response: ServerResponse, value: object): void {
  response.setHeader('Content-Type', 'application/json');
  response.end(JSON.stringify(value));
}

let held = 0;

server.on('request', (request: IncomingMessage, response: ServerResponse) => {
  response.setHeader('Date', new Date().toUTCString());
  void answer(request, response).catch((error: unknown) => {
    const [head, body] = problem(error);
    response.writeHead(401, head).end(body);
  });
});

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = request.url!;
  if (url === '/counts') return json(response, counts);
  if (url === `${prefix}.well-known/postern`) {
    const signIn = {
      issuer: options.issuer ?? issuer,
      clientId: 'postern',
      deviceFlow: options.deviceFlow === true,
    };
    return json(response, {
      version: '0',
      publicUrl: options.publicUrl ?? resource,
      ...(options.noSignIn ? {} : { signIn }),
    });
  }
  if (url === `${prefix}oauth/token` && held < (options.holdTokens ?? 0)) {
    held++;
    process.stdout.write('held\n');
    return;
  }
  if (url.startsWith(`${prefix}oauth/`)) {
    Object.assign(request, {
      url: url.slice(`${prefix}oauth`.length),
      originalUrl: url,
      baseUrl: `${prefix}oauth`,
    });
    return authorize(request, response);
  }
  if (url === `${prefix}api/access`) {
    const { sub, groups } = await principal(request);
    const sessions = [{ id: 's1', target: 'box:22', since: '2026-11-23T01:02:03Z' }];
    return json(response, {
      subject: sub,
      groups,
      until: '2026-11-23T00:10:00Z',
      signedInUntil: '2026-11-24T00:00:00Z',
      hosts: [{ pattern: 'box:22' }],
      sessions,
    });
  }
  if (url === `${prefix}api/tickets`) {
    await principal(request);
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    counts.ticket = JSON.parse(Buffer.concat(chunks).toString()) as object;
    return json(response, { ticket: `pt_${'a'.repeat(43)}`, expiresAt: '2026-11-23T02:00:00Z' });
  }
  response.writeHead(404).end();
}

const webSockets = new WebSocketServer({ noServer: true, handleProtocols: () => eofSubprotocol });
server.on('upgrade', (request, socket: Socket, head) => {
  socket.on('error', () => {});
  if (!request.url!.startsWith(`${prefix}tcp/`)) {
    socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
    return;
  }
  principal(request).then(
    // oxlint-disable-next-line promise/always-return
    ({ sub }) => {
      webSockets.handleUpgrade(request, socket, head, (ws) => {
        counts.tunnels++;
        webSocketStream(ws, { eof: 'message' })
          .on('error', () => {})
          .end(`hello ${sub}\n`);
      });
    },
    (error: unknown) => {
      const [fields, body] = problem(error);
      const lines = Object.entries({ ...fields, 'Content-Length': body.length }).map((pair) =>
        pair.join(': '),
      );
      socket.end(`HTTP/1.1 401 Unauthorized\r\n${lines.join('\r\n')}\r\n\r\n${body}`);
    },
  );
});
process.stdout.write(`${port}\n`);
