import { writeFile } from 'node:fs/promises';
import type { Server as TlsServer } from 'node:https';
import { parseArgs } from 'node:util';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { standardLog } from '../account/log.ts';
import { defaultConfigText } from '../config/defaults.ts';
import { defaultConfigFile, loadConfig } from '../config/load.ts';
import { Gateway } from '../gateway.ts';
import { Doors } from '../instance/doors.ts';
import { InstanceFolder, newInstanceName } from '../instance/folder.ts';
import { instanceApp } from '../instance/instance-app.ts';
import { Neighbours } from '../instance/neighbours.ts';
import { Succession } from '../instance/succession.ts';
import { startSuccessor } from '../instance/successor.ts';
import { takeoverRoutes } from '../instance/takeover.ts';
import { adminApp } from '../listen/admin.ts';
import { describeDoor } from '../listen/listen.ts';
import { certificateOf, publicApp } from '../listen/public-app.ts';
import { controlOf, mount } from '../plugin.ts';
import { notifySystemd, passedSocket } from '../systemd.ts';
import { runCommand } from './command.ts';
import type { CommandIo } from './command.ts';
import { onHangUp, onUpgrade, stopSignal } from './signals.ts';

/** Others that stop too may take this much longer than the grace time. */
const marginMs = 5000;

const usage = 'postern-gateway serve [--config FILE] [--init]';

/** `postern-gateway serve`: runs until a signal ends it; resolves to the exit code. */
export function serve(args: string[], io: CommandIo): Promise<number> {
  return runCommand(io, usage, () => serveUntilStopped(args, io));
}

async function serveUntilStopped(args: string[], { env }: CommandIo): Promise<number> {
  const { values } = parseArgs({
    args,
    options: {
      config: { type: 'string', default: defaultConfigFile },
      init: { type: 'boolean', default: false },
    },
  });
  if (values.init)
    await writeFile(values.config, defaultConfigText(), { flag: 'wx', mode: 0o600 }).catch(unlessThere);
  const config = await loadConfig(values.config, env);
  const log = standardLog(config.log.level);
  const folder = await InstanceFolder.open(config.control.path);
  const instance = newInstanceName();
  const neighbours = new Neighbours(folder, instance);
  const gateway = await Gateway.open(config, log, { instance, neighbours });
  const app = publicApp(config, log);
  // A plugin's prefix has no slash at its end.
  app.register(async (mounted) => mount(mounted, gateway), { prefix: gateway.prefix.slice(0, -1) });
  const control = controlOf(gateway, neighbours);
  takeoverRoutes(control, { publicUrl: config.publicUrl, yield: () => doors.yield() });
  const succession = new Succession(gateway);
  const apps = { public: app, admin: adminApp(gateway), control, instance: instanceApp(succession) };
  const doors: Doors = new Doors({ config, passed: passedSocket(env), instance, folder, apps });
  // The process that has taken over speaks for the service.
  const notify = async (state: string): Promise<void> => {
    if (doors.areOurs) await notifySystemd(state, env);
  };
  onHangUp(async () => {
    await notify('RELOADING=1');
    gateway.reopenAudit();
    await reload(values.config, env, gateway, app, log);
    await notify('READY=1');
  });
  onUpgrade(log, () => (doors.areOurs ? startSuccessor(app.server, env) : undefined));
  const asked = stopSignal(log);
  // Before all else: `/readyz` says so at once.
  void asked.then(() => gateway.stop());
  try {
    await doors.open(neighbours);
  } catch (error) {
    await doors.close();
    throw error;
  }
  log.info(
    {
      listen: describeDoor(doors.public),
      admin: describeDoor(config.admin),
      publicUrl: config.publicUrl.href,
      instance,
    },
    'listening',
  );
  await notify('READY=1');

  const cause = await Promise.race([asked, doors.yielded.then(() => 'takeover')]);
  log.info({ cause, tunnels: gateway.sessions.count }, cause === 'takeover' ? 'handing on' : 'stopping');
  if (cause !== 'takeover') {
    doors.closePublic();
    gateway.relays.askToMove();
    await notify('STOPPING=1');
    await succession.orElse(neighbours.tell('stop', config.limits.graceMs + marginMs));
  }
  await gateway.empty();
  await doors.close();
  log.info('stopped');
  await new Promise<void>((resolve) => log.flush(() => resolve()));
  return cause === 'uncaughtException' ? 1 : 0;
}

/** A configuration that cannot be used changes nothing: the old one stays, and the log says why. */
async function reload(
  file: string,
  env: CommandIo['env'],
  gateway: Gateway,
  app: FastifyInstance,
  log: Logger,
): Promise<void> {
  try {
    const config = await loadConfig(file, env);
    if (config.tls && gateway.config.tls)
      (app.server as unknown as TlsServer).setSecureContext(certificateOf(config.tls));
    await gateway.reload(config);
    log.info('configuration reloaded');
  } catch (error) {
    log.error({ err: error }, 'configuration not reloaded; the old one stays');
  }
}

function unlessThere(error: unknown): void {
  if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
}
