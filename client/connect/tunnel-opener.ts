import type { Duplex } from 'node:stream';
import type { Target } from '../../protocol/target.ts';
import { canSignIn, openTunnelTo, signInFirst } from './open-tunnel.ts';
import type { OpenTunnelOptions } from './open-tunnel.ts';
import { withCredential } from '../credentials/with-credential.ts';
import { ClientError, toFailure } from '../errors/failure.ts';
import type { TunnelError } from '../../protocol/errors.ts';

/** Where messages about tunnels go. */
export interface TunnelMessages {
  /** Receives a line about a tunnel that has been opened, beginning with `postern: `. */
  readonly onNotice: (line: string, target: Target) => void;
  /** Receives the failure of the early sign-in. */
  readonly onFailure: (error: TunnelError) => void;
}

/** Opens tunnels; where a sign-in is needed, there is one for all tunnels that wait. */
export class TunnelOpener {
  readonly #options: OpenTunnelOptions;
  readonly #messages: TunnelMessages;
  #signingIn: Promise<void> | undefined;

  constructor(tunnelOptions: OpenTunnelOptions, messages: TunnelMessages) {
    this.#options = tunnelOptions;
    this.#messages = messages;
  }

  async open(target: Target, signal: AbortSignal): Promise<Duplex> {
    const tunnelOptions = {
      ...this.#options,
      signal,
      notify: (line: string) => this.#messages.onNotice(line, target),
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
        this.#messages.onFailure(toFailure(cause)),
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
