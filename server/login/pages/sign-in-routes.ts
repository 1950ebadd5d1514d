import type { FastifyInstance } from 'fastify';
import { showSignIn, submitAccount } from './account-routes.ts';
import { allow, refuse, switchPerson } from './consent-routes.ts';
import { SignInContext } from './sign-in-context.ts';
import type { SignInParts, InteractionRequest } from './sign-in-context.ts';
import { continueSignIn, finishUpstream, startUpstream } from './upstream-routes.ts';

const routes = [
  ['GET', '/sign-in/:uid', showSignIn],
  ['POST', '/sign-in/:uid', submitAccount],
  ['POST', '/sign-in/:uid/allow', allow],
  ['POST', '/sign-in/:uid/refuse', refuse],
  ['POST', '/sign-in/:uid/other', switchPerson],
  ['GET', '/sign-in/:uid/with/:provider', startUpstream],
  ['GET', '/callback/:provider', finishUpstream],
  ['GET', '/sign-in/:uid/continue', continueSignIn],
] as const;

/**
 * The pages between a request to the authorization server and its answer: the person proves who they are, and decides
 * about the program that asks.
 */
export function signInRoutes(app: FastifyInstance, parts: SignInParts): void {
  const context = new SignInContext(parts);
  for (const [method, url, handle] of routes)
    app.route({
      method,
      url,
      handler: (request: InteractionRequest, reply) => handle(context, request, reply),
    });
}
