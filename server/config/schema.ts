import { z } from 'zod';
import { entryNames } from '../../protocol/entries.ts';
import { issuerSchema, providerSchema, ruleSchema, targetList } from './schema-items.ts';
import {
  checkPlain,
  readControl,
  readListen,
  readNameServer,
  readOrigin,
  readProxyRange,
  readPublicUrl,
  readRange,
  readTargetAddress,
} from './setting-parsers.ts';
import { hours, kib, mib, minutes, seconds, section, text } from './setting-types.ts';
import type { SettingPath } from './yaml-document.ts';

/** The parts of a settings file's surroundings that its values depend on. */
export interface SettingsOrigin {
  /** The absolute form of a path in the settings; relative ones start from the folder of the file. */
  readonly resolvePath: (path: string) => string;
  /** `postern.yaml:31`, or the name of an environment variable: the place where a setting stands. */
  readonly locate: (path: SettingPath) => string;
}

const count = z.int().min(1).max(1_000_000);
// The longest time that a timer of Node can hold is 2^31 - 1 ms, some 596 hours.
const shortTime = () => seconds(z.number().positive().max(3600));

/**
 * The settings of `postern.yaml`: each key once, with its type, default, unit, description and whether a reload takes it.
 * The output has each value checked by itself, in the form that the program uses; `cross-checks.ts` looks at them together.
 */
export function settingsSchema({ resolvePath, locate }: SettingsOrigin) {
  const file = text((path) => resolvePath(checkPlain(path)));
  return z.strictObject({
    listen: text(readListen)
      .prefault('127.0.0.1:8022')
      .describe('The HTTP listener behind the web proxy')
      .meta({ reload: false }),
    tls: section({
      certFile: file.meta({ reload: true }),
      keyFile: file.meta({ reload: true }),
    })
      .exactOptional()
      .describe('TLS at the gateway itself, without a web proxy')
      .meta({ reload: false }),
    admin: text(readListen)
      .prefault('127.0.0.1:9464')
      .describe('Health, readiness and metrics')
      .meta({ reload: false }),
    control: text((socket) => ({ kind: 'unix' as const, path: resolvePath(readControl(socket)) }))
      .prefault('unix:./postern-control.sock')
      .describe('The unix socket of postern-gateway sessions and kill, for its owner only')
      .meta({ reload: false }),
    workers: z
      .int()
      .min(1)
      .max(32)
      .prefault(1)
      .describe('Number of processes that carry tunnels: one for each core that they can use')
      .meta({ reload: false }),
    publicUrl: text(readPublicUrl)
      .exactOptional()
      .describe('The URL at which clients reach the gateway; ends in /')
      .meta({ reload: false }),
    trustedProxies: z
      .array(text(readProxyRange))
      .prefault([])
      .describe('Ranges whose forwarded headers are trusted')
      .meta({ reload: true }),
    entries: z
      .array(z.enum(entryNames))
      .min(1)
      .transform((names) => [...new Set(names)])
      .prefault([...entryNames])
      .meta({ reload: false }),
    origins: z
      .array(text(readOrigin))
      .prefault([])
      .describe('Web origins whose pages can open tunnels; a request with any other Origin is refused')
      .meta({ reload: true }),
    keyFile: file
      .prefault('./postern-key.json')
      .describe("The gateway's own signing key, created when first needed, with mode 0600")
      .meta({ reload: true }),
    store: section({ file: file.prefault('./postern.db') })
      .prefault({})
      .describe('Accounts, sign-ins, tickets and revocations: all that has to survive a restart')
      .meta({ reload: false }),
    signIn: section({
      accounts: z
        .boolean()
        .prefault(true)
        .describe('Accounts of the gateway itself can sign in: postern-gateway user')
        .meta({ reload: true }),
      sessionHours: hours(z.number().positive().max(8784))
        .prefault(12)
        .describe('Lifetime of a sign-in; then users sign in again')
        .meta({ reload: false }),
      accessTokenMinutes: minutes(z.number().min(1).max(60)).prefault(10).meta({ reload: false }),
      deviceFlow: z
        .boolean()
        .prefault(false)
        .describe('Sign-in on another device, by typing a code there')
        .meta({ reload: false }),
      providers: z
        .array(providerSchema(file))
        .prefault([])
        .describe('Identity providers, OpenID Connect')
        .meta({ reload: true }),
    })
      .prefault({})
      .meta({ reload: true }),
    issuers: z
      .array(issuerSchema(file))
      .prefault([])
      .describe('Other trusted token issuers')
      .meta({ reload: true }),
    targets: z
      .record(z.string(), z.strictObject({ address: text(readTargetAddress) }))
      .transform(targetList)
      .prefault({})
      .describe('Names that users connect to, and their addresses')
      .meta({ reload: true }),
    rules: z
      .array(ruleSchema)
      .transform((rules) =>
        rules.map(({ name, ...rule }, index) => ({
          ...rule,
          /** `rule 2 (postern.yaml:31)`: its name in `explain` and the audit. */
          name: `${name ?? `rule ${index + 1}`} (${locate(['rules', index])})`,
        })),
      )
      .prefault([])
      .describe('Which targets each principal can reach; everything else is denied')
      .meta({ reload: true }),
    reload: section({
      recheck: z
        .enum(['close', 'keep'])
        .prefault('close')
        .describe(
          'What a reload does to open tunnels that its rules, targets, issuers or network no longer allow',
        ),
    })
      .prefault({})
      .meta({ reload: true }),
    network: section({
      allow: z
        .array(text(readRange))
        .prefault([])
        .describe('Ranges that can be dialled; default: every ordinary address'),
      deny: z.array(text(readRange)).prefault([]).describe('Ranges that are never dialled'),
      nameServers: z.array(text(readNameServer)).prefault([]).describe('Default: those of the system'),
    })
      .prefault({})
      .meta({ reload: true }),
    limits: section({
      tunnels: count.prefault(8000),
      perSubject: count.prefault(100),
      detachedPerSubject: count
        .exactOptional()
        .describe('Tunnels of one subject that wait for their client; by default as many as perSubject'),
      perAddress: count.prefault(200),
      connectionsPerAddress: count
        .exactOptional()
        .describe('Connections of one client address; by default three times perAddress'),
      perTarget: count.exactOptional().describe('Tunnels to one target'),
      opensPerMinute: count.exactOptional().describe('Tunnels that one subject can open in a minute'),
      // The listener keeps its time for a request to arrive; that for checking a token changes.
      preAuthSeconds: shortTime().prefault(10).meta({ reload: 'partly' }),
      dialSeconds: shortTime().prefault(10),
      sessionHours: hours(z.number().positive().max(500)).prefault(12),
      graceSeconds: seconds(z.number().min(0).max(86_400))
        .prefault(30)
        .describe('How long a stopping gateway waits for its tunnels'),
    })
      .prefault({})
      .meta({ reload: true }),
    resume: section({
      keepMinutes: minutes(z.number().positive().max(1440))
        .prefault(15)
        .describe('How long a tunnel without a connection is kept'),
      windowKiB: kib(z.int().min(64).max(4096))
        .prefault(1024)
        .describe('Maximum that one tunnel keeps for retransmission, in each direction'),
      totalMiB: mib(z.int().min(1).max(1_000_000))
        .prefault(256)
        .describe(
          'Maximum that all tunnels together keep; above it, those without a connection end, the oldest first',
        ),
      carrierMinutes: minutes(z.number().positive().max(10_000))
        .transform((age) => Math.round(age))
        .exactOptional()
        .describe('Age at which an intermediary cuts connections; clients replace theirs before that'),
    })
      .prefault({})
      .describe('Tunnels that outlive their connections')
      .meta({ reload: false }),
    audit: section({
      file: file.prefault('./audit.jsonl').meta({ reload: false }),
      required: z
        .boolean()
        .prefault(true)
        .describe('Refuse tunnels that cannot be recorded')
        .meta({ reload: true }),
    })
      .prefault({})
      .meta({ reload: false }),
    log: section({
      level: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']).prefault('info'),
    })
      .prefault({})
      .meta({ reload: false }),
  });
}

/** The schema of the settings where it is only looked at: for keys, types, units and defaults. */
export const settingsOutline = settingsSchema({ resolvePath: (path) => path, locate: () => '' });

/** The settings after each value has been read by itself. */
export type Settings = z.output<typeof settingsOutline>;

/** The JSON Schema of `postern.yaml`, for editors. */
export function configJsonSchema(): Record<string, unknown> {
  return { title: 'postern.yaml', ...z.toJSONSchema(settingsOutline, { io: 'input' }) };
}
