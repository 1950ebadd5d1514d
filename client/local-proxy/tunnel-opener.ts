import type { Duplex } from 'node:stream';
import type { Target } from '../../protocol/target.ts';
import { canSignIn, openTunnelTo, signInFirst } from '../connect/open-tunnel.ts';
import type { OpenTunnelOptions } from '../connect/open-tunnel.ts';
import { withCredential } from '../credentials/with-credential.ts';
import { ClientError, toFailure } from '../errors/failure.ts';
import type { Reporter } from './reporter.ts';

/** Opens tunnels; where a sign-in is needed, there is one for all tunnels that wait. */
export class TunnelOpener {
  readonly #options: OpenTunnelOptions;
  readonly #reporter: Reporter;
  #signingIn: Promise<void> | undefined;

  constructor(tunnelOptions: OpenTunnelOptions, reporter: Reporter) {
    this.#options = tunnelOptions;
    this.#reporter = reporter;
  }

  async open(target: Target, signal: AbortSignal): Promise<Duplex> {
    const tunnelOptions = {
      ...this.#options,
      signal,
      notify: (line: string) => this.#reporter.tunnelNotice(line, target),
    };
    try {
      return await openTunnelTo(target, tunnelOptions);
    } catch (error) {
      if (!this.#isForSignIn(error)) throw error;
      await this.#signIn();
      return openTunnelTo(target, tunnelOptions);
    }
  }

  /** Checks, before the first connection needs it, whether there is a sign-in. Never rejects. */
  async prepare(): Promise<void> {
    const { settings, egress } = this.#options;
    const { token: sources, gateway } = settings;
    try {
      await withCredential({ sources, gateway, egress, signal: AbortSignal.timeout(30_000) }, async () => {});
    } catch (error) {
      await (this.#isForSignIn(error) ? this.#signIn() : Promise.reject(error)).catch((cause: unknown) =>
        this.#reporter.failed(toFailure(cause)),
      );
    }
  }

  #isForSignIn(error: unknown): boolean {
    return (
      error instanceof ClientError && error.code === 'TOKEN_MISSING' && canSignIn(this.#options.settings)
    );
  }

  #signIn(): Promise<void> {
    this.#signingIn ??= signInFirst(this.#options).finally(() => (this.#signingIn = undefined));
    return this.#signingIn;
  }
}
