import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { TunnelError } from '../../../protocol/errors.ts';
import { formatTarget, parseTarget } from '../../../protocol/target.ts';
import type { Principal } from '../../auth/authenticator.ts';
import type { MadeTicket, Tickets } from '../../auth/tickets.ts';
import type { RuleConfig } from '../../config/config.ts';
import type { PeerControl } from '../../admin/control.ts';
import type { RemoteAddress } from '../../http/client-address.ts';
import { formatPattern, patternMatches } from '../../../protocol/target-pattern.ts';
import { reachablePatterns } from '../../policy/reach.ts';
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
  /** Those of the other processes of the gateway, where there can be any. */
  readonly elsewhere?: PeerControl | undefined;
  readonly tickets: Pick<Tickets, 'issue'>;
  readonly onTicket: (made: MadeTicket) => void;
  readonly remoteAddress: RemoteAddress;
  /** The wall clock, in milliseconds since 1970. */
  readonly now?: () => number;
}

const ticket = { ttlMs: 300_000, uses: 1 } as const;

/** The page of what a person may reach and where they are signed in, and the buttons on it. */
export function accessRoutes(app: FastifyInstance, parts: AccessParts): void {
  const { publicUrl, server, signIns, identities, forms, sessions, now = Date.now } = parts;
  const here = `${publicUrl.pathname}access`;

  /** Whom the browser is signed in as; undefined: nobody. */
  async function principalOf(request: FastifyRequest, reply: FastifyReply): Promise<SignedIn | undefined> {
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
      expiresAt: new Date(signIn.expiresAt),
    };
  }

  /** Whose form it is, with its fields. Throws `PageError`, `FormRefusal`. */
  async function formOf(
    request: FastifyRequest,
    reply: FastifyReply,
  ): Promise<{ readonly principal: SignedIn; readonly field: (name: string) => string }> {
    const principal = await principalOf(request, reply);
    if (!principal) throw new PageError('form_stale', 403);
    const form = forms.check(request, principal.signInId);
    return { principal, field: (name) => form.get(name) ?? '' };
  }

  async function show(
    reply: FastifyReply,
    principal: SignedIn,
    more: Pick<AccessPage, 'ticket' | 'notice'> = {},
  ): Promise<FastifyReply> {
    const page: AccessPage = {
      publicUrl,
      token: forms.of(principal.signInId),
      now: now(),
      subject: principal.subject,
      groups: [...principal.groups].toSorted(),
      until: principal.expiresAt.getTime(),
      hosts: reachablePatterns(parts.rules(), principal).map(formatPattern),
      sessions: (await ownSessions(sessions, principal, parts.elsewhere)).map((session) => ({
        ...session,
        since: Date.parse(session.since),
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

  app.get('/access', async (request: FastifyRequest<{ Querystring: { done?: string } }>, reply) => {
    const principal = await principalOf(request, reply);
    if (!principal) return reply.header('Cache-Control', 'no-store').redirect(server.signInUrl, 303);
    const { done } = request.query;
    return show(reply, principal, isNotice(done) ? { notice: done } : {});
  });

  app.get(
    '/access/signed-in',
    async (request: FastifyRequest<{ Querystring: { error?: unknown } }>, reply) => {
      const { error } = request.query;
      if (error !== undefined)
        throw new PageError(typeof error === 'string' ? error : 'invalid_request', 403);
      // Sending the browser to sign in again would go round for ever.
      if (!(await principalOf(request, reply))) throw new PageError('cookies', 403);
      return reply.header('Cache-Control', 'no-store').redirect(here, 303);
    },
  );

  app.post('/access/end-session', async (request, reply) => {
    const { principal, field } = await formOf(request, reply);
    const { issuer, subject } = principal;
    const id = field('id');
    const reason = 'ended by its owner';
    const ended = sessions.endWhere(
      (each) => each.id === id && each.principal?.issuer === issuer && each.principal.subject === subject,
      'KILLED',
      reason,
    );
    if (ended === 0 && id !== '')
      await parts.elsewhere?.kill({ sessions: [id], issuer, subject, revoke: false, reason });
    return reply.redirect(`${here}?done=session-ended`, 303);
  });

  app.post('/access/end-sign-in', async (request, reply) => {
    const { principal, field } = await formOf(request, reply);
    const signIn = await signIns.find(field('id'));
    if (signIn?.subject === principal.subject) await signIns.end(signIn.id, 'ended by its owner');
    return reply.redirect(`${here}?done=sign-in-ended`, 303);
  });

  app.post('/access/ticket', async (request, reply) => {
    const { principal, field } = await formOf(request, reply);
    const target = targetOf(field('target'), principal, parts.rules());
    if (target === undefined) return show(reply.code(422), principal, { notice: 'target-invalid' });
    const targets = [target];
    const made = await parts.tickets.issue(principal, { targets, ...ticket });
    parts.onTicket({
      principal,
      client: parts.remoteAddress(request.raw),
      targets,
      uses: ticket.uses,
      expiresAt: made.expiresAt,
    });
    return show(reply, principal, { ticket: { text: made.ticket, target, minutes: ticket.ttlMs / 60_000 } });
  });

  app.post('/sign-out', async (request, reply) => {
    const { principal } = await formOf(request, reply);
    await signIns.end(principal.signInId, 'signed out');
    const { names, long } = browserCookies(publicUrl);
    const gone = [names!.session!, `${names!.session}.sig`].map(
      (name) =>
        `${name}=; Path=${long!.path}; Max-Age=0; HttpOnly; SameSite=Lax${long!.secure === true ? '; Secure' : ''}`,
    );
    return reply.header('Set-Cookie', gone).redirect(`${publicUrl.pathname}signed-out`, 303);
  });

  app.get('/signed-out', (_request, reply) =>
    reply.headers(pageHeaders()).type('text/html; charset=utf-8').send(signedOutPage(publicUrl)),
  );
}

type SignedIn = Principal & { readonly signInId: string };

/** The target that somebody typed, if it is one they may reach. */
function targetOf(text: string, principal: Principal, rules: readonly RuleConfig[]): string | undefined {
  try {
    const target = parseTarget(text.trim());
    return reachablePatterns(rules, principal).some((pattern) => patternMatches(pattern, target))
      ? formatTarget(target)
      : undefined;
  } catch (error) {
    if (error instanceof TunnelError) return undefined;
    throw error;
  }
}
