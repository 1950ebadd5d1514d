import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { JwksCache } from '../../auth/jwt/jwks-cache.ts';
import type { KeySource } from '../../auth/jwt/jwks-cache.ts';
import { remoteJwksPolicy } from '../../auth/jwt/issuer-keys.ts';
import { keysFromDiscovery } from '../../auth/jwt/jwks-loaders.ts';
import type { ProviderConfig } from '../../config/config.ts';
import type { Store } from '../../store/store.ts';
import type { Form } from './forms.ts';
import { logoutTokenMs, readLogoutToken } from '../upstream/logout-token.ts';
import type { SignIns } from '../sign-ins.ts';

export interface LogoutParts {
  readonly store: Store;
  readonly signIns: SignIns;
  /** As the configuration has them now. */
  readonly providers: () => readonly ProviderConfig[];
  readonly onError: (error: unknown) => void;
}

/** The endpoint at which identity providers report the end of a session (OpenID Connect Back-Channel Logout 1.0 section 2.5). */
export function logoutRoutes(
  app: FastifyInstance,
  { store, signIns, providers, onError }: LogoutParts,
): void {
  const accepted = store.table('upstreamLogout', z.literal(true));
  const sources = new Map<string, KeySource>();

  function keysOf(issuer: string): KeySource {
    const known =
      sources.get(issuer) ?? new JwksCache(keysFromDiscovery(issuer), { policy: remoteJwksPolicy, onError });
    sources.set(issuer, known);
    return known;
  }

  app.post('/back-channel-logout/:provider', async (request, reply) => {
    const { provider: name } = request.params as { provider: string };
    void reply.header('Cache-Control', 'no-store');
    const provider = providers().find((each) => each.name === name);
    const text = request.body instanceof Map ? (request.body as Form).get('logout_token') : undefined;
    if (!provider || text === undefined) return reply.code(400).send({ error: 'invalid_request' });
    try {
      const { issuer, clientId } = provider;
      const logout = await readLogoutToken(text, { issuer, clientId, keys: keysOf(issuer), now: Date.now() });
      const key = JSON.stringify([name, logout.tokenId]);
      // A repeated token means nothing new: sign-ins since then stay.
      const isNew = await accepted.add(key, true, { expiresAt: Date.now() + 2 * logoutTokenMs });
      if (isNew) await signIns.endFrom(name, logout, `${provider.title} has ended its session`);
      return await reply.code(200).send();
    } catch (error) {
      onError(error);
      return reply
        .code(400)
        .send({ error: 'invalid_request', error_description: 'the logout token is not accepted' });
    }
  });
}
