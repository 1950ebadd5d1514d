import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { TunnelError } from '../../../protocol/errors.ts';
import { formatTarget, parseTarget } from '../../../protocol/target.ts';
import type { Principal } from '../../auth/authenticator.ts';
import type { MadeTicket, Tickets } from '../../auth/tickets.ts';
import type { RuleConfig } from '../../config/config.ts';
import type { PeerControl } from '../../admin/control.ts';
import type { RemoteAddress } from '../../http/client-address.ts';
import { formatPattern } from '../../../protocol/target-pattern.ts';
import { firstUnreachable, reachablePatterns } from '../../policy/reach.ts';
import { ownerKillReason } from '../../session/end-words.ts';
import type { Sessions } from '../../session/sessions.ts';
import { accessPage, isNotice } from './access-page.ts';
import type { AccessPage } from './access-page.ts';
import { ownSessions } from '../../web/api.ts';
import { pageHeaders } from '../../web/page.ts';
import { signedOutPage } from './sign-in-pages.ts';
import type { AuthorizationServer } from '../authorization-server/authorization-server.ts';
import { browserCookies } from './cookies.ts';
import type { FormTokens } from './forms.ts';
import type { Identities } from '../upstream/identities.ts';
import { PageError } from './error-replies.ts';
import type { SignIns } from '../sign-ins.ts';

export interface AccessParts {
  readonly publicUrl: URL;
  readonly server: AuthorizationServer;
  readonly signIns: SignIns;
  readonly identities: Identities;
  readonly forms: FormTokens;
  readonly rules: () => readonly RuleConfig[];
  readonly sessions: Pick<Sessions, 'records' | 'endWhere'>;
  /** The other processes of the gateway, where there can be any. */
  readonly peers?: PeerControl | undefined;
  readonly tickets: Pick<Tickets, 'issue'>;
  readonly onTicket: (made: MadeTicket) => void;
  readonly remoteAddress: RemoteAddress;
  /** The wall clock, in milliseconds since 1970. */
  readonly now?: () => number;
}

const ticketTerms = { ttlMs: 300_000, uses: 1 } as const;

type SignedIn = Principal & { readonly signInId: string };

/** What the routes of the access page have in common. */
class AccessContext {
  readonly parts: AccessParts;
  /** The path of the page. */
  readonly path: string;

  constructor(parts: AccessParts) {
    this.parts = parts;
    this.path = `${parts.publicUrl.pathname}access`;
  }

  /** The person whose browser this is; undefined when it is not signed in. */
  async principal(request: FastifyRequest, reply: FastifyReply): Promise<SignedIn | undefined> {
    const { server, signIns, identities } = this.parts;
    const session = await server.browserSession(request.raw, reply.raw);
    const signIn = session && (await signIns.find(session.signInId));
    const identity = session && (await identities.find(session.subject));
    if (!signIn || !identity) return undefined;
    return {
      issuer: server.issuer,
      subject: identity.subject,
      groups: new Set(identity.groups),
      signInId: signIn.id,
      issuedAt: new Date(signIn.provenAt),
      ownClock: true,
      expiresAt: new Date(signIn.expiresAt),
    };
  }

  /** The person who has sent a form, and its fields. Throws `PageError`, `FormRefusal`. */
  async submitted(
    request: FastifyRequest,
    reply: FastifyReply,
  ): Promise<{ readonly principal: SignedIn; readonly field: (name: string) => string }> {
    const principal = await this.principal(request, reply);
    if (!principal) throw new PageError('form_stale', 403);
    const form = this.parts.forms.check(request, principal.signInId);
    return { principal, field: (name) => form.get(name) ?? '' };
  }

  async show(
    reply: FastifyReply,
    principal: SignedIn,
    more: Pick<AccessPage, 'ticket' | 'notice'> = {},
  ): Promise<FastifyReply> {
    const { publicUrl, forms, rules, sessions, peers, signIns, now = Date.now } = this.parts;
    const page: AccessPage = {
      publicUrl,
      token: forms.of(principal.signInId),
      now: now(),
      subject: principal.subject,
      groups: [...principal.groups].toSorted(),
      until: principal.expiresAt.getTime(),
      hosts: reachablePatterns(rules(), principal).map(formatPattern),
      sessions: (await ownSessions(sessions, principal, peers)).map(({ detachedSince, ...session }) => ({
        ...session,
        since: Date.parse(session.since),
        ...(detachedSince !== undefined && { detachedSince: Date.parse(detachedSince) }),
      })),
      signIns: await signIns.of(principal.subject),
      signInId: principal.signInId,
      ...more,
    };
    return reply
      .headers(pageHeaders(["'self'"]))
      .type('text/html; charset=utf-8')
      .send(accessPage(page));
  }
}

type Handler = (
  context: AccessContext,
  request: FastifyRequest,
  reply: FastifyReply,
) => Promise<FastifyReply>;

/** `GET access`: the page. */
export const showAccess: Handler = async (context, request, reply) => {
  const principal = await context.principal(request, reply);
  if (!principal)
    return reply.header('Cache-Control', 'no-store').redirect(context.parts.server.signInUrl, 303);
  const { done } = request.query as { readonly done?: string };
  return context.show(reply, principal, isNotice(done) ? { notice: done } : {});
};

/** `GET access/signed-in`: the redirect URI of the pages. */
export const finishSignIn: Handler = async (context, request, reply) => {
  const { error } = request.query as { readonly error?: unknown };
  if (error !== undefined) throw new PageError(typeof error === 'string' ? error : 'invalid_request', 403);
  // To send the browser to sign in again would go round for ever.
  if (!(await context.principal(request, reply))) throw new PageError('cookies', 403);
  return reply.header('Cache-Control', 'no-store').redirect(context.path, 303);
};

/** `POST access/end-session`: ends a tunnel of one's own, in whichever process it is. */
export const endSession: Handler = async (context, request, reply) => {
  const { sessions, peers } = context.parts;
  const { principal, field } = await context.submitted(request, reply);
  const { issuer, subject } = principal;
  const id = field('id');
  const reason = ownerKillReason(new URL('access', context.parts.publicUrl));
  const ended = sessions.endWhere(
    (each) => each.id === id && each.principal?.issuer === issuer && each.principal.subject === subject,
    'KILLED',
    reason,
  );
  if (ended === 0 && id !== '') await peers?.kill({ sessions: [id], issuer, subject, revoke: false, reason });
  return reply.redirect(`${context.path}?done=session-ended`, 303);
};

/** `POST access/end-sign-in`: ends a sign-in of one's own. */
export const endSignIn: Handler = async (context, request, reply) => {
  const { signIns } = context.parts;
  const { principal, field } = await context.submitted(request, reply);
  const signIn = await signIns.find(field('id'));
  if (signIn?.subject === principal.subject) await signIns.end(signIn.id, 'ended by its owner');
  return reply.redirect(`${context.path}?done=sign-in-ended`, 303);
};

/** `POST access/ticket`: makes a ticket for one session, and shows it. */
export const issueTicket: Handler = async (context, request, reply) => {
  const { rules, tickets, onTicket, remoteAddress } = context.parts;
  const { principal, field } = await context.submitted(request, reply);
  const target = targetOf(field('target'), principal, rules());
  if (target === undefined) return context.show(reply.code(422), principal, { notice: 'target-invalid' });
  const targets = [target];
  const { ticket, expiresAt } = await tickets.issue(principal, { targets, ...ticketTerms });
  onTicket({ principal, client: remoteAddress(request.raw), targets, uses: ticketTerms.uses, expiresAt });
  const minutes = ticketTerms.ttlMs / 60_000;
  return context.show(reply, principal, { ticket: { text: ticket, target, minutes } });
};

/** `POST sign-out`: ends the sign-in of this browser. */
export const signOut: Handler = async (context, request, reply) => {
  const { publicUrl, signIns } = context.parts;
  const { principal } = await context.submitted(request, reply);
  await signIns.end(principal.signInId, 'signed out');
  const { names, long } = browserCookies(publicUrl);
  const expired = [names!.session!, `${names!.session}.sig`].map(
    (name) =>
      `${name}=; Path=${long!.path}; Max-Age=0; HttpOnly; SameSite=Lax${long!.secure === true ? '; Secure' : ''}`,
  );
  return reply.header('Set-Cookie', expired).redirect(`${publicUrl.pathname}signed-out`, 303);
};

/** `GET signed-out`: the page after that. */
export const showSignedOut: Handler = async (context, _request, reply) =>
  reply.headers(pageHeaders()).type('text/html; charset=utf-8').send(signedOutPage(context.parts.publicUrl));

const routes = [
  ['GET', '/access', showAccess],
  ['GET', '/access/signed-in', finishSignIn],
  ['POST', '/access/end-session', endSession],
  ['POST', '/access/end-sign-in', endSignIn],
  ['POST', '/access/ticket', issueTicket],
  ['POST', '/sign-out', signOut],
  ['GET', '/signed-out', showSignedOut],
] as const;

/** The page on which a person sees the hosts that they can reach and where they are signed in, and its buttons. */
export function accessRoutes(app: FastifyInstance, parts: AccessParts): void {
  const context = new AccessContext(parts);
  for (const [method, url, handle] of routes)
    app.route({ method, url, handler: (request, reply) => handle(context, request, reply) });
}

/** The target that was typed, if the principal can reach it. */
function targetOf(text: string, principal: Principal, rules: readonly RuleConfig[]): string | undefined {
  try {
    const target = parseTarget(text.trim());
    return firstUnreachable(rules, principal, [target]) ? undefined : formatTarget(target);
  } catch (error) {
    if (error instanceof TunnelError) return undefined;
    throw error;
  }
}
