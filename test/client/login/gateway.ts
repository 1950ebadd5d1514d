import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import { own } from '../../e2e/support/process.ts';

/** How the gateway of a test behaves. */
export interface GatewayProcessOptions {
  readonly accessSeconds?: number;
  readonly deviceSeconds?: number;
  readonly deviceFlow?: boolean;
  /** The token endpoint wants a nonce in proofs. */
  readonly requireNonce?: boolean;
  /** Tunnels and API want this nonce in proofs. */
  readonly tunnelNonce?: string;
  readonly clockAheadMs?: number;
  /** What the discovery document says instead of the truth. */
  readonly issuer?: string;
  readonly publicUrl?: string;
  readonly noSignIn?: boolean;
  /** Refuses good tokens as long as so many were refused. */
  readonly refuseTokens?: readonly number[];
  /** Does not answer so many requests for tokens; says `held` of each. */
  readonly holdTokens?: number;
}

/** What has happened at a gateway. */
export interface GatewayCounts {
  authorizations: number;
  readonly tokens: Record<string, number>;
  tunnels: number;
  /** Why each refusal was one. */
  readonly refused: string[];
  revocations: number;
  ticket?: object;
}

export interface GatewayProcess {
  readonly url: URL;
  counts(): Promise<GatewayCounts>;
  /** Resolves when it has said this, also if that was before. */
  said(word: string): Promise<void>;
  stop(): Promise<void>;
}

/** Starts such a gateway; it ends with the test. */
export async function startGatewayProcess(
  t: { after(ending: () => Promise<void>): void },
  options: GatewayProcessOptions = {},
): Promise<GatewayProcess> {
  const file = join(import.meta.dirname, 'gateway-process.ts');
  const child = own(
    spawn(process.execPath, ['--disable-warning=ExperimentalWarning', file, JSON.stringify(options)], {
      stdio: ['ignore', 'pipe', process.env['DEBUG_GATEWAY'] ? 'inherit' : 'ignore'],
    }),
  );
  const gone = once(child, 'close');
  const stop = async (): Promise<void> => {
    child.kill('SIGKILL');
    await gone;
  };
  t.after(stop);
  const lines = createInterface({ input: child.stdout });
  const [port] = (await Promise.race([
    once(lines, 'line'),
    gone.then(() => {
      throw new Error('the gateway process did not start');
    }),
  ])) as [string];
  const words: string[] = [];
  lines.on('line', (word) => words.push(word));
  const origin = `http://127.0.0.1:${port}`;
  return {
    url: new URL(`${origin}/ssh/`),
    counts: async () => (await fetch(`${origin}/counts`)).json() as Promise<GatewayCounts>,
    async said(word) {
      while (!words.includes(word)) await once(lines, 'line');
    },
    stop,
  };
}
