import type { FastifyReply, FastifyRequest } from 'fastify';
import type { LoginResult } from '../authorization-server/grants.ts';
import { ProviderRefusal } from '../upstream/identity-provider.ts';
import { PendingLogins } from '../upstream/pending-logins.ts';
import { cookieScope } from './cookies.ts';
import type { CookieScope } from './cookies.ts';
import { PageError } from './error-replies.ts';
import type { SignInContext, InteractionRequest } from './sign-in-context.ts';

const cookieSeconds = 900;

/** `GET sign-in/:uid/with/:provider`: sends the browser to an identity provider. */
export async function startUpstream(
  context: SignInContext,
  request: InteractionRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const interaction = await context.interaction(request, reply);
  const provider = context.provider(request.params.provider);
  // A write to the disk for a person who has not signed in.
  const waitMs = context.parts.rate.admit(context.parts.remoteAddress(request.raw));
  if (waitMs > 0) {
    void reply.header('Retry-After', Math.ceil(waitMs / 1000));
    throw new PageError('too_many_requests', 429);
  }
  const { url, request: state } = await provider.beginLogin();
  const value = await pendingLogins(context).start(state, provider.config.name, interaction.uid);
  return reply
    .header('Set-Cookie', setCookie(cookieOf(context), value, cookieSeconds))
    .header('Referrer-Policy', 'no-referrer')
    .redirect(url.href, 303);
}

/** `GET callback/:provider`: the browser is back from a provider. */
export async function finishUpstream(
  context: SignInContext,
  request: InteractionRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const { publicUrl, identities, revalidator, settings } = context.parts;
  const provider = context.provider(request.params.provider);
  // The host that the request names proves nothing; the path is the route's.
  const url = new URL(`callback/${provider.config.name}`, publicUrl);
  url.search = request.raw.url?.split('?')[1] ?? '';
  const cookie = cookieOf(context);
  const logins = pendingLogins(context);
  const state = url.searchParams.get('state') ?? '';
  const pending = await logins.consume(state, provider.config.name, readCookie(request, cookie.name));
  if (!pending) throw new PageError('expired', 400);
  const login = await provider.completeLogin(url, pending);
  const { identity, origin } = login;
  const expiresAt = Date.now() + settings().sessionMs * 2;
  if (!(await identities.keep(identity, expiresAt)))
    throw new ProviderRefusal('subject_unusable', `${identity.subject} is an account of the gateway`);
  await revalidator.keep(login, expiresAt);
  await logins.complete(pending.uid, { identity, origin });
  return reply
    .header('Set-Cookie', setCookie(cookie, '', 0))
    .redirect(`${publicUrl.pathname}sign-in/${pending.uid}/continue`, 303);
}

/** `GET sign-in/:uid/continue`: the sign-in goes on with the identity that the provider has stated. */
export async function continueSignIn(
  context: SignInContext,
  request: InteractionRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const interaction = await context.interaction(request, reply);
  const result = await pendingLogins(context).takeResult(interaction.uid);
  if (!result) throw new PageError('expired', 400);
  const { identity, origin } = result;
  const login: LoginResult = { accountId: identity.subject, amr: ['ext'], origin };
  // A provider can sign people in without a word: the next page asks about the program.
  return context.signedIn(request, reply, { interaction, login, agreed: false });
}

function pendingLogins({ parts }: SignInContext): PendingLogins {
  return new PendingLogins(parts.store);
}

/** The cookie of a browser that is at a provider. */
function cookieOf({ parts: { publicUrl } }: SignInContext): CookieScope {
  return cookieScope(publicUrl, 'away', `${publicUrl.pathname}callback/`);
}

function setCookie({ name, path, secure }: CookieScope, value: string, seconds: number): string {
  return `${name}=${value}; Path=${path}; Max-Age=${seconds}; HttpOnly; SameSite=Lax${secure ? '; Secure' : ''}`;
}

function readCookie(request: FastifyRequest, name: string): string | undefined {
  const pairs = (request.headers.cookie ?? '').split(';').map((pair) => pair.trim());
  return pairs.find((pair) => pair.startsWith(`${name}=`))?.slice(name.length + 1);
}
