import { mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import fastify from 'fastify';
import type { FastifyInstance } from 'fastify';
import pino from 'pino';
import { gatewayApp } from '../../../server/commands/gateway-app.ts';
import { parseConfig } from '../../../server/config/parse.ts';
import { Gateway } from '../../../server/gateway.ts';
import { postern } from '../../../server/plugin.ts';

/** A whole gateway in this process. */
export interface RunningGateway {
  /** 0 for a unix socket. */
  readonly port: number;
  readonly socketFile: string;
  readonly storeFile: string;
  /** Every line of its log. */
  readonly lines: readonly {
    readonly level: number;
    readonly msg: string;
    readonly [field: string]: unknown;
  }[];
  /** Absent for a plugin. */
  readonly gateway: Gateway | undefined;
  /** Not for a plugin. */
  reload(changed: object): Promise<void>;
  close(): Promise<void>;
}

/**
 * Starts a gateway with `/ssh/` as its prefix, on a port of loopback: as its own program does, or as a plugin in a server of
 * another owner with `hostOptions`.
 */
export async function startGatewayApp(
  settings: object = {},
  hostOptions?: object,
  { isUnix = false }: { readonly isUnix?: boolean } = {},
): Promise<RunningGateway> {
  const folder = mkdtempSync(join(tmpdir(), 'postern-app-'));
  const storeFile = join(folder, 'postern.db');
  const config = {
    publicUrl: 'https://gw.example/ssh/',
    keyFile: join(folder, 'key.json'),
    store: { file: storeFile },
    control: `unix:${join(folder, 'control.sock')}`,
    audit: { file: join(folder, 'audit.jsonl') },
    rules: [{ groups: ['dev'], targets: ['*.dev.example', 'box.example:22'] }],
    limits: { graceSeconds: 1 },
    ...settings,
  };
  const lines: RunningGateway['lines'][number][] = [];
  const sink = new Writable({
    write(line, _encoding, done) {
      lines.push(JSON.parse(String(line)) as RunningGateway['lines'][number]);
      done();
    },
  });
  const log = pino({ level: 'info' }, sink);
  let app: FastifyInstance;
  let gateway: Gateway | undefined;
  if (hostOptions) {
    app = fastify({ loggerInstance: log, ...hostOptions }) as unknown as FastifyInstance;
    app.register(postern, { prefix: '/ssh', config });
  } else {
    gateway = await Gateway.open(parseConfig(JSON.stringify(config), { file: 'config', env: {} }), log);
    app = gatewayApp(gateway, log);
  }
  const socketFile = join(folder, 'public.sock');
  await app.listen(isUnix ? { path: socketFile } : { host: '127.0.0.1', port: 0 });
  return {
    port: isUnix ? 0 : (app.server.address() as AddressInfo).port,
    socketFile,
    reload: (changed) =>
      gateway!.reload(parseConfig(JSON.stringify({ ...config, ...changed }), { file: 'config', env: {} })),
    storeFile,
    lines,
    gateway,
    async close() {
      app.server.closeAllConnections();
      await app.close();
      rmSync(folder, { recursive: true });
    },
  };
}
