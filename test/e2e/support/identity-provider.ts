import { join } from 'node:path';
import { packageDirectory } from './needs.ts';
import { freePort, start, type Running } from './process.ts';
import type { Scratch } from './scratch.ts';

/** A company's identity provider, as a process of its own. It signs in every user under the name that is typed. */
export interface IdentityProviderProcess {
  readonly issuer: string;
  readonly port: number;
  readonly running: Running;
}

export interface IdentityProviderPlan {
  readonly clientId: string;
  readonly redirectUri: string;
  /** Where it says that a session is over. */
  readonly backChannelLogoutUri?: string;
  /** Taken from an earlier one, to start it again. */
  readonly port?: number;
}

/** Starts oidc-provider with its own pages for development. */
export async function startIdentityProvider(
  scratch: Scratch,
  plan: IdentityProviderPlan,
): Promise<IdentityProviderProcess> {
  const port = plan.port ?? (await freePort());
  const program = join(packageDirectory, 'test/e2e/support/identity-provider-main.ts');
  const running = await start(scratch, [process.execPath, program, JSON.stringify({ ...plan, port })], {
    port,
    // No other program uses the certificates of the tests.
    env: { NODE_TLS_REJECT_UNAUTHORIZED: '0', NODE_NO_WARNINGS: '1' },
  });
  return { issuer: `http://127.0.0.1:${port}`, port, running };
}
