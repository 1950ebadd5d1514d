import type { FastifyReply } from 'fastify';
import type { Interaction } from '../authorization-server/authorization-server.ts';
import type { LoginResult } from '../authorization-server/grants.ts';
import type { SignInContext, InteractionRequest } from './sign-in-context.ts';
import { consentPage } from './sign-in-pages.ts';

/** The page that asks a person who is signed in about a program. */
export function showConsent(
  context: SignInContext,
  reply: FastifyReply,
  interaction: Interaction,
): FastifyReply {
  const page = consentPage({
    publicUrl: context.parts.publicUrl,
    action: context.pathOf(interaction),
    token: context.tokenFor(interaction),
    subject: interaction.session?.accountId ?? '',
  });
  return context.show(reply, page, interaction);
}

/** `POST sign-in/:uid/allow`: the program can connect. */
export async function allow(
  context: SignInContext,
  request: InteractionRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const { interaction } = await context.submitted(request, reply);
  const login = interaction.lastSubmission?.login as LoginResult | undefined;
  return context.proceed(request, reply, {
    ...(login && { login: { ...login, told: true } }),
    consent: {},
  });
}

/** `POST sign-in/:uid/refuse`: it cannot. */
export async function refuse(
  context: SignInContext,
  request: InteractionRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  await context.submitted(request, reply);
  return context.proceed(request, reply, { error: 'access_denied' });
}

/** `POST sign-in/:uid/other`: signs the browser out, and begins again for another person. */
export async function switchPerson(
  context: SignInContext,
  request: InteractionRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const { server } = context.parts;
  const { interaction } = await context.submitted(request, reply);
  await server.signOutBrowser(interaction);
  await server.abandon(interaction);
  return reply.redirect(server.restartUrl(interaction), 303);
}
