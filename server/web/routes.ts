import type { FastifyInstance } from 'fastify';
import { upgradePaths, upgradeTokens } from '../../protocol/entries.ts';
import { TunnelError } from '../../protocol/errors.ts';
import type { Authenticator, Challenge } from '../auth/authenticator.ts';
import type { Config } from '../config/config.ts';
import { discoveryDocument } from './discovery.ts';
import { registerErrorReplies } from './error-replies.ts';
import type { ErrorReplyParts } from './error-replies.ts';
import { pageHeaders } from './page.ts';
import { startPage } from './start-page.ts';

export interface WebParts extends Omit<ErrorReplyParts, 'publicUrl' | 'challenge'> {
  readonly authenticator: () => Authenticator;
  readonly config: () => Config;
}

/**
 * The answers to ordinary requests below the gateway's prefix: a page for people, the discovery document for clients, and
 * a clear refusal of everything else.
 */
export function webRoutes(app: FastifyInstance, parts: WebParts): void {
  const { config, authenticator } = parts;
  const challenge = (): Challenge => authenticator().challenge;
  const refuseRequest = registerErrorReplies(app, { ...parts, publicUrl: config().publicUrl, challenge });
  app.get('/', (_request, reply) =>
    reply.headers(pageHeaders()).type('text/html; charset=utf-8').send(startPage(config())),
  );
  app.get('/.well-known/postern', (_request, reply) =>
    reply
      .headers({ 'X-Content-Type-Options': 'nosniff', 'Cache-Control': 'max-age=60' })
      .send(discoveryDocument(config())),
  );
  for (const path of upgradePaths.map((each) => `/${each}`)) {
    app.all(path, (request, reply) =>
      refuseRequest(
        request,
        reply,
        new TunnelError(
          'UPGRADE_REQUIRED',
          `this path is for tunnels: request one with Upgrade: ${upgradeTokens.join(' or ')}`,
        ),
      ),
    );
  }
}
