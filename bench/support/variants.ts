import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { entryNames } from '../../protocol/entries.ts';
import type { EntryName } from '../../protocol/entries.ts';
import { makeCertificates } from '../../test/e2e/support/certificates.ts';
import type { Certificates } from '../../test/e2e/support/certificates.ts';
import { findProgram } from '../../test/e2e/support/needs.ts';
import { freePort } from '../../test/e2e/support/process.ts';
import { startFront } from '../../test/e2e/support/proxies.ts';
import { Scratch } from '../../test/e2e/support/scratch.ts';
import type { Effort } from './figure.ts';
import { root, startGateway } from './gateway.ts';
import { connectCounting, startLoadTarget } from './load.ts';
import type { LoadTarget } from './load.ts';
import { measuredCore, pin } from './processes.ts';
import { end, flow, lacking, openByProgram, rivals } from './rivals.ts';
import type { Rival } from './rivals.ts';
import type { Variant } from './variant.ts';
import { token } from './tokens.ts';
import { openTunnel } from './tunnels.ts';

/** What the two kinds of variants are called. */
export const groups = {
  clear: 'in the clear, one process in the path',
  whole: 'encrypted, the whole path with its client',
} as const;

/** All variants that this machine has, and what they lead to. */
export interface Variants {
  readonly all: readonly Variant[];
  readonly target: LoadTarget;
}

/** The kind of a variant, as a table says it. */
export function groupOf({ isWholePath }: Variant): string {
  return isWholePath ? groups.whole : groups.clear;
}

/** The variants in the order of this round: each begins as often as the others, so that what else happens falls on all. */
export function inTurn(startAll: readonly Variant[], round: number): readonly Variant[] {
  const first = Math.max(round, 0) % startAll.length;
  return [...startAll.slice(first), ...startAll.slice(0, first)];
}

/** What was measured; undefined where a rival is at fault, which is then printed. */
export async function unlessBroken<T>(
  { what, isOurs }: Variant,
  measure: () => Promise<T>,
): Promise<T | undefined> {
  try {
    return await measure();
  } catch (error) {
    if (isOurs) throw error;
    console.error(`SKIPPED: ${what}: ${(error as Error).message}`);
    return undefined;
  }
}

let running: { readonly variants: Variants; readonly stop: () => Promise<void> } | undefined;

/**
 * All variants to the target. They go on for the next figure, until `stopVariants`. A variant that is not available is
 * printed, and left out.
 */
export async function startVariants({ profiles }: Effort): Promise<Variants> {
  running ??= await startAll(profiles);
  return running.variants;
}

/** Ends them. */
export async function stopVariants(): Promise<void> {
  await running?.stop();
  running = undefined;
}

async function startAll(profiles: string | undefined): Promise<NonNullable<typeof running>> {
  const scratch = new Scratch();
  const target = await startLoadTarget();
  const all: Variant[] = [directVariant(target.port)];
  const stop = async (): Promise<void> => {
    await Promise.all(all.map((variant) => variant.stop()));
    await Promise.all([scratch.end(), target.close()]);
  };
  try {
    const plan = { scratch, targetPort: target.port, profiles };
    const found = await Promise.all(rivals.map((rival) => rivalVariant(rival, plan)));
    all.push(...found.filter((variant) => variant !== undefined));
    all.push(...(await Promise.all(entryNames.map((entry) => ownVariant(plan, entry)))));
    all.push(...(await Promise.all(await wholePaths(plan))));
    // Those with one process in the path come first.
    const sorted = all.toSorted((a, b) => Number(a.isWholePath) - Number(b.isWholePath));
    return { variants: { all: sorted, target }, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Undefined where it cannot be had. */
async function rivalVariant(rival: Rival, plan: OwnPlan): Promise<Variant | undefined> {
  try {
    const problem = lacking(rival);
    if (problem === undefined) return await rival.start(plan);
    console.error(`SKIPPED: ${rival.name}: ${problem}`);
  } catch (error) {
    console.error(`SKIPPED: ${rival.name}: ${(error as Error).message}`);
  }
  return undefined;
}

async function wholePaths(plan: OwnPlan): Promise<readonly Promise<Variant>[]> {
  if (findProgram('nginx') === undefined || findProgram('openssl') === undefined) {
    console.error('SKIPPED: the whole path: this machine lacks nginx or openssl');
    return [];
  }
  const certificates = await makeCertificates(plan.scratch);
  return (['websocket', 'relay'] as const).map((entry) => wholePath(plan, entry, certificates));
}

function directVariant(port: number): Variant {
  return {
    what: 'direct',
    isOurs: false,
    isWholePath: false,
    servers: {},
    open: async (take) => {
      const socket = await connectCounting(port, take);
      return { stream: socket, clients: {}, close: async () => void socket.resetAndDestroy() };
    },
    stop: async () => {},
  };
}

interface OwnPlan {
  readonly scratch: Scratch;
  readonly targetPort: number;
  readonly profiles: string | undefined;
}

/** A gateway for one entry alone, so that its memory is what this entry takes. */
async function startOwn({ scratch, targetPort, profiles }: OwnPlan, name: string) {
  const nodeArguments =
    profiles === undefined
      ? []
      : ['--cpu-prof', `--cpu-prof-dir=${profiles}`, `--cpu-prof-name=${name}.cpuprofile`];
  // The end of each measurement is an error to it.
  const settings = { log: { level: 'silent' } };
  const options = { name, nodeArguments };
  const { port, child } = await startGateway(scratch.directory, targetPort, options, settings);
  // A profile is written when the process ends by itself.
  const stop = (): Promise<void> => end(child, profiles === undefined ? 0 : 20_000);
  return { port, pid: child.pid!, stop };
}

async function ownVariant(plan: OwnPlan, entry: EntryName): Promise<Variant> {
  const { port, pid, stop } = await startOwn(plan, entry);
  return {
    what: `Postern ${entry}`,
    isOurs: true,
    isWholePath: false,
    servers: { gateway: pid },
    open: async (take) => flow(await openTunnel(entry, port), take),
    stop,
  };
}

/** `postern connect`, nginx with TLS by the file that we ship, and the gateway. */
async function wholePath(plan: OwnPlan, entry: EntryName, certificates: Certificates): Promise<Variant> {
  const gateway = await startOwn(plan, `whole-${entry}`);
  const scratch = new Scratch();
  const port = await freePort();
  const nginx = await startFront(scratch, 'nginx', { certificates, port, upstreamPort: gateway.port });
  pin(nginx.pid, measuredCore);
  const home = plan.scratch.path(`home-${entry}`);
  const tokenFile = join(home, 'token');
  mkdirSync(home);
  writeFileSync(tokenFile, token({}), { mode: 0o600 });
  const env = {
    HOME: home,
    PATH: process.env['PATH'],
    POSTERN_GATEWAY: `https://localhost:${port}/ssh/`,
    POSTERN_CA_FILE: certificates.authorityFile,
    POSTERN_TOKEN_FILE: tokenFile,
  };
  const argv = [process.execPath, join(root, 'dist/postern.cjs'), 'connect', '--via', entry, 'box'];
  return {
    what: `Postern ${entry}, nginx with TLS`,
    isOurs: true,
    isWholePath: true,
    servers: { nginx: nginx.pid, gateway: gateway.pid },
    open: (take) => openByProgram('postern connect', argv, take, env),
    stop: async () => {
      await scratch.end();
      await gateway.stop();
    },
  };
}
