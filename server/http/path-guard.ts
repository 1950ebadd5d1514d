import type { FastifyInstance } from 'fastify';
import { TunnelError } from '../../protocol/errors.ts';
import { formatRequestTarget, isExactPath, readRequestTarget } from './request-path.ts';

/**
 * Has every route of `app` answer its path in one spelling only. The router has chosen a route by its own reading, which can
 * decode, and in the app of another owner can fold case and slashes; what comes after it reads the path as it was sent. A
 * path that is not spelt as its route is a path that there is nothing at. Targets that are malformed get a 400, and so do
 * requests without a host (RFC 9112 section 3.2).
 */
export function guardPaths(app: FastifyInstance): void {
  // The start page has two spellings, of which a router that folds slashes knows one.
  const roots = [app.prefix, `${app.prefix}/`];
  const areRoots = (...paths: readonly string[]): boolean => paths.every((path) => roots.includes(path));
  app.addHook('onRequest', async ({ raw, routeOptions }, reply) => {
    const target = readRequestTarget(raw.url ?? '');
    if (raw.httpVersion === '1.1' && raw.headers.host === undefined)
      throw new TunnelError('REQUEST_INVALID', 'the request has no Host field');
    raw.url = formatRequestTarget(target);
    const { url: pattern } = routeOptions;
    if (pattern === undefined || isExactPath(pattern, target.path) || areRoots(pattern, target.path))
      return undefined;
    reply.callNotFound();
    // The hook has answered.
    return reply;
  });
}
