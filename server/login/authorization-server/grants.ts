import type { AccessToken, Grant, KoaContextWithOIDC, Session, interactionPolicy } from 'oidc-provider';
import type { RemoteAddress } from '../../http/client-address.ts';
import type { DeviceInfo } from './device-codes.ts';
import type { Identities } from '../upstream/identities.ts';
import type { Origin, SignIn, SignIns } from '../sign-ins.ts';
import { agentOf } from '../pages/user-agent.ts';

/** The client id of the gateway's own pages. */
export const webClientId = 'postern-web';

/** The only scope: to be identified. */
export const grantScope = 'openid';

/** A completed sign-in, as the sign-in pages report it. It lies in the interaction, in the store. */
export interface LoginResult {
  readonly accountId: string;
  readonly amr: string[];
  readonly origin?: Origin;
  /** It was reported before, at the first of two pages. */
  readonly told?: boolean;
  readonly [key: string]: unknown;
}

export interface GrantParts {
  readonly signIns: SignIns;
  readonly identities: Identities;
  /** How long sign-ins and access tokens are valid. */
  readonly times: { readonly sessionMs: number; readonly accessTokenMs: number };
  readonly remoteAddress: RemoteAddress;
  /** Called for each sign-in that begins. */
  readonly onSignIn: (signIn: SignIn) => void;
  /** The wall clock, in milliseconds since 1970. */
  readonly now?: () => number;
}

/** Turns the outcomes of the pages into grants, one for each sign-in, and keeps the record of each. */
export class SignInGrants {
  readonly #parts: GrantParts;

  constructor(parts: GrantParts) {
    this.#parts = parts;
  }

  /** The grant of a request; makes it when the person has just agreed to it. */
  async load(context: KoaContextWithOIDC): Promise<Grant | undefined> {
    const { session, client, result, deviceCode } = context.oidc;
    if (!session || !client) return undefined;
    const login = result?.login as LoginResult | undefined;
    if (login && login.told !== true) await this.#beginBrowser(context, session, login);
    const browser = await this.#browserOf(session);
    if (!browser) return undefined;
    if (client.clientId === webClientId) return context.oidc.provider.Grant.find(browser.id);
    // The person agreed to a device when they confirmed its code, to any other program on a page of this very sign-in.
    if (deviceCode) {
      if (await this.#mustSignIn(context)) return undefined;
      const { remoteAddress, agent } = (deviceCode as unknown as { deviceInfo: DeviceInfo }).deviceInfo;
      return this.#begin(context, { ...inherited(browser), kind: 'device', remoteAddress, agent });
    }
    if (!result?.consent) return undefined;
    const agent = agentOf(context.get('user-agent'));
    return this.#begin(context, {
      ...inherited(browser),
      kind: 'program',
      remoteAddress: this.#address(context),
      agent,
    });
  }

  /** When a person has to sign in (again), and when they have to agree. */
  policy({ base, Check }: typeof interactionPolicy): interactionPolicy.DefaultPolicy {
    const policy = base();
    const login = policy.get('login')!;
    login.checks.add(
      new Check('sign_in_over', 'the sign-in of this browser has ended', (context) =>
        this.#mustSignIn(context),
      ),
    );
    const { checks } = policy.get('consent')!;
    checks.clear();
    checks.add(
      new Check(
        'program_agreed',
        'a program wants to connect as the person',
        'interaction_required',
        (context) => {
          const { client, result, deviceCode } = context.oidc;
          return client?.clientId !== webClientId && !deviceCode && !result?.consent;
        },
      ),
    );
    return policy;
  }

  /** The claims of the access token besides the registered ones. */
  async claims(token: AccessToken): Promise<Record<string, unknown>> {
    const [identity, signIn] = await Promise.all([
      this.#parts.identities.find(token.accountId ?? ''),
      this.#parts.signIns.find(token.grantId ?? ''),
    ]);
    if (!identity || !signIn)
      throw new Error('this person is no longer allowed to sign in, or the sign-in has ended');
    return {
      sid: signIn.id,
      // With its milliseconds: revocations are compared with it.
      auth_time: signIn.provenAt / 1000,
      groups: identity.groups,
      ...(identity.provider !== undefined && { idp: identity.provider }),
    };
  }

  /** No token outlives its sign-in. */
  limitLifetime(context: KoaContextWithOIDC, seconds: number): number {
    const remaining = context.oidc.entities.Grant?.remainingTTL ?? seconds;
    return Math.max(1, Math.min(seconds, remaining));
  }

  /**
   * Whether the person has to prove again who they are: the browser's sign-in has ended, or is so old that a sign-in that
   * begins now would last less than half of its time.
   */
  async #mustSignIn(context: KoaContextWithOIDC): Promise<boolean> {
    const { session, account, client, result } = context.oidc;
    if (session?.accountId === undefined) return false;
    if (!account) return true;
    const browser = await this.#browserOf(session);
    if (!browser) return true;
    const left = browser.expiresAt - this.#now();
    return client?.clientId !== webClientId && !result?.login && left < this.#parts.times.sessionMs / 2;
  }

  async #browserOf(session: Session): Promise<SignIn | undefined> {
    const id = session.grantIdFor(webClientId);
    const signIn = id === undefined ? undefined : await this.#parts.signIns.find(id);
    return signIn?.subject === session.accountId ? signIn : undefined;
  }

  /** A person who signs in again in the same browser has one sign-in there, which is extended. */
  async #beginBrowser(context: KoaContextWithOIDC, session: Session, login: LoginResult): Promise<void> {
    const before = await this.#browserOf(session);
    const grant = await this.#begin(
      context,
      {
        subject: login.accountId,
        provenAt: this.#parts.signIns.proofTime(login.accountId),
        expiresAt: this.#now() + this.#parts.times.sessionMs,
        kind: 'browser',
        remoteAddress: this.#address(context),
        agent: agentOf(context.get('user-agent')),
        sessionUid: session.uid,
        ...(login.origin && { origin: login.origin }),
      },
      before && (await context.oidc.provider.Grant.find(before.id)),
    );
    session.ensureClientContainer(webClientId);
    session.grantIdFor(webClientId, grant.jti);
  }

  async #begin(
    context: KoaContextWithOIDC,
    about: Omit<SignIn, 'id' | 'startedAt'>,
    present?: Grant,
  ): Promise<Grant> {
    const { provider, client } = context.oidc;
    const clientId = about.kind === 'browser' ? webClientId : client!.clientId;
    const grant = present ?? new provider.Grant({ accountId: about.subject, clientId });
    grant.addOIDCScope(grantScope);
    grant.exp = Math.floor(about.expiresAt / 1000);
    const id = await grant.save();
    const signIn: SignIn = { ...about, id, startedAt: this.#now() };
    await this.#parts.signIns.begin(signIn);
    this.#parts.onSignIn(signIn);
    return grant;
  }

  #address(context: KoaContextWithOIDC): string {
    return this.#parts.remoteAddress(context.req);
  }

  #now(): number {
    return (this.#parts.now ?? Date.now)();
  }
}

/** The fields that a program's sign-in inherits from the browser's that it was made with. */
function inherited({
  subject,
  provenAt,
  expiresAt,
  origin,
}: SignIn): Pick<SignIn, 'subject' | 'provenAt' | 'expiresAt' | 'origin'> {
  return { subject, provenAt, expiresAt, ...(origin && { origin }) };
}
