import { once } from 'node:events';
import type { Server as TlsServer } from 'node:https';
import { z } from 'zod';
import { standardLog } from '../telemetry/log.ts';
import type { Config } from '../config/config.ts';
import { parseConfig } from '../config/parse.ts';
import { Gateway } from '../gateway.ts';
import { RuntimeDirectory, newInstanceName } from '../cluster/runtime-directory.ts';
import { instanceApp } from '../cluster/peer-api.ts';
import { Peers } from '../cluster/peers.ts';
import { OwnListener } from '../listener/public-listener.ts';
import { ProcessLifecycle } from '../cluster/process-lifecycle.ts';
import { workerRoutes } from '../cluster/worker-api.ts';
import type { WorkerNotice } from '../cluster/supervisor.ts';
import { listenForTakeover } from '../listener/listen.ts';
import { certificateOf, publicApp } from '../http/app.ts';
import { mount } from '../plugin.ts';
import { SharedCounts } from '../cluster/shared-counter.ts';
import { workerFds } from '../cluster/systemd.ts';
import type { WorkerPlace } from '../cluster/systemd.ts';
import type { CommandIo } from './command.ts';
import { ledSignals } from './signals.ts';

const orders = z.strictObject({ configText: z.string() });

/**
 * A process that takes tunnels for the one that has started it, and does nothing else: it ends when that says so, when
 * that is gone, or when it fails, as soon as its tunnels have ended or the grace time is over. Resolves to the exit code.
 */
export async function serveAsWorker(
  file: string,
  place: WorkerPlace,
  env: CommandIo['env'],
): Promise<number> {
  const orphaned = once(process, 'disconnect').then(() => 'disconnect' as const);
  const [said] = (await Promise.race([once(process, 'message'), orphaned.then(() => [undefined])])) as [
    unknown,
  ];
  if (said === undefined) return 1;
  const read = (text: string): Config => shareOf(parseConfig(text, { file, env }), place);
  const config = read(orders.parse(said).configText);
  const log = standardLog(config.log.level, place.number);
  const folder = await RuntimeDirectory.open(config.control.path);
  const instance = newInstanceName();
  const neighbours = new Peers(folder, instance);
  const counter = SharedCounts.passed(workerFds.counts, place.columns).counter(place.column);
  const gateway = await Gateway.open(config, log, { instance, peers: neighbours, counter, isWorker: true });
  const app = publicApp(config, log);
  // A plugin's prefix has no slash at its end.
  app.register(async (mounted) => mount(mounted, gateway), { prefix: gateway.prefix.slice(0, -1) });
  const door = new OwnListener(app, { kind: 'passed', fd: workerFds.socket });
  const succession = new ProcessLifecycle(gateway, place.generation);
  const own = instanceApp(succession, { carriers: gateway.carriers });
  const yielded = Promise.withResolvers<'yield'>();
  workerRoutes(own, {
    get notReadyReasons() {
      return gateway.notReadyReasons;
    },
    reopenAudit: () => gateway.reopenAudit(),
    async prepare(text) {
      const next = read(text);
      const certificate = next.tls && config.tls && certificateOf(next.tls);
      const commit = await gateway.prepare(next);
      return () => {
        if (certificate) (app.server as unknown as TlsServer).setSecureContext(certificate);
        commit();
      };
    },
    stopAccepting() {
      door.close();
      yielded.resolve('yield');
    },
  });
  const failed = ledSignals(log);
  await listenForTakeover(
    own,
    { kind: 'unix', path: folder.socketOf(instance)! },
    { access: 'owner', mode: 'next' },
  );
  await door.open('next');
  tell({ listening: instance });
  log.info({ instance }, 'worker listening');

  const cause = await Promise.race([yielded.promise, failed, orphaned]);
  log.info({ cause, tunnels: gateway.sessions.count }, 'worker ending');
  if (cause !== 'yield') {
    door.close();
    gateway.stop();
    if (cause === 'uncaughtException') tell({ failing: true });
  }
  // Nobody would say so to one that has yielded already, if nobody has taken over.
  void orphaned.then(() => succession.isSucceeded || gateway.stop());
  await gateway.empty();
  await neighbours.sendFinalMetrics({
    instance,
    worker: String(place.number),
    figures: await gateway.metrics.snapshot(),
  });
  await door.end();
  await own.close();
  await folder.remove(folder.socketOf(instance)!);
  log.info('worker stopped');
  await new Promise<void>((resolve) => log.flush(() => resolve()));
  if (process.connected) process.disconnect?.();
  return cause === 'uncaughtException' ? 1 : 0;
}

/** What all of them together may keep is shared out. */
function shareOf(config: Config, { workers }: WorkerPlace): Config {
  const totalBytes = Math.max(config.resume.windowBytes, Math.floor(config.resume.totalBytes / workers));
  return { ...config, resume: { ...config.resume, totalBytes } };
}

function tell(notice: WorkerNotice): void {
  // Who is gone hears nothing.
  if (process.connected) process.send?.(notice, undefined, undefined, () => {});
}
