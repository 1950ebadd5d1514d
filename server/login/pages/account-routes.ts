import type { FastifyReply } from 'fastify';
import { verifyAccount } from '../accounts/accounts.ts';
import type { SignInResult } from '../accounts/accounts.ts';
import type { Interaction } from '../authorization-server/authorization-server.ts';
import { webClientId } from '../authorization-server/grants.ts';
import { showConsent } from './consent-routes.ts';
import { PageError } from './error-replies.ts';
import type { SignInContext, InteractionRequest } from './sign-in-context.ts';
import { signInPage } from './sign-in-pages.ts';
import type { Purpose, SignInPage } from './sign-in-pages.ts';

/** `GET sign-in/:uid`: the page of a sign-in. A gateway whose only login method is one provider sends the browser there. */
export async function showSignIn(
  context: SignInContext,
  request: InteractionRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const interaction = await context.interaction(request, reply);
  if (interaction.prompt.name !== 'login') return showConsent(context, reply, interaction);
  const { accounts, providers } = context.parts.settings();
  const [only, ...others] = providers;
  if (only && !accounts && others.length === 0)
    return reply.redirect(`${context.pathOf(interaction)}/with/${only.config.name}`, 303);
  return showForm(context, reply, interaction);
}

/** `POST sign-in/:uid`: a name and a password, for an account of the gateway. */
export async function submitAccount(
  context: SignInContext,
  request: InteractionRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const { parts } = context;
  const { interaction, form } = await context.submitted(request, reply);
  if (!parts.settings().accounts) throw new PageError('access_denied', 403);
  const name = form.get('name') ?? '';
  const address = parts.remoteAddress(request.raw);
  const result = await verifyAccount(parts.store, {
    name,
    password: form.get('password') ?? '',
    code: form.get('code')?.replaceAll(/\s/g, ''),
    address,
  });
  if (result.kind === 'busy') {
    void reply.code(503).header('Retry-After', Math.ceil(result.retryAfterMs / 1000));
    return showForm(context, reply, interaction, { name: name.slice(0, 64), problem: { kind: 'busy' } });
  }
  if (result.kind === 'refused') {
    parts.onRefused({ client: address, tooSoon: result.retryAfterMs !== undefined });
    return showRefusal(context, reply, { interaction, result, name });
  }
  const login = { accountId: result.subject, amr: form.get('code') ? ['pwd', 'otp'] : ['pwd'] };
  return context.signedIn(request, reply, { interaction, login, agreed: true });
}

function showRefusal(
  context: SignInContext,
  reply: FastifyReply,
  {
    interaction,
    result: { retryAfterMs },
    name,
  }: { interaction: Interaction; result: SignInResult & { kind: 'refused' }; name: string },
): FastifyReply {
  const again = { name: name.slice(0, 64) };
  if (retryAfterMs === undefined)
    return showForm(context, reply.code(422), interaction, { ...again, problem: { kind: 'invalid' } });
  void reply.code(429).header('Retry-After', Math.ceil(retryAfterMs / 1000));
  return showForm(context, reply, interaction, { ...again, problem: { kind: 'locked', retryAfterMs } });
}

function showForm(
  context: SignInContext,
  reply: FastifyReply,
  interaction: Interaction,
  again: Pick<SignInPage, 'problem' | 'name'> = {},
): FastifyReply {
  const { accounts, providers } = context.parts.settings();
  const page: SignInPage = {
    publicUrl: context.parts.publicUrl,
    action: context.pathOf(interaction),
    token: context.tokenFor(interaction),
    purpose: purposeOf(interaction),
    accounts,
    providers: providers.map(({ config: { name, title } }) => ({ name, title })),
    ...again,
  };
  return context.show(reply, signInPage(page), interaction);
}

function purposeOf({ params, deviceCode }: Interaction): Purpose {
  if (deviceCode !== undefined) return 'device';
  return params['client_id'] === webClientId ? 'pages' : 'program';
}
