import { z } from 'zod';
import { entryNames } from '../../protocol/entries.ts';
import {
  checkDiscoverable,
  checkPlain,
  readControl,
  readIssuerUrl,
  readListen,
  readNameServer,
  readOrigin,
  readPattern,
  readProviderName,
  readProxyRange,
  readPublicUrl,
  readRange,
  readSecureUrl,
  readTargetAddress,
  readTargetName,
} from './setting-parsers.ts';
import { hours, kib, mib, minutes, seconds, section, text } from './setting-types.ts';
import type { SettingPath } from './yaml-document.ts';

/** The parts of a settings file's surroundings that its values depend on. */
export interface SettingsOrigin {
  /** The absolute form of a path in the settings; relative ones start from the folder of the file. */
  resolvePath(path: string): string;
  /** `postern.yaml:31`, or the name of an environment variable: the place where a setting stands. */
  locate(path: SettingPath): string;
}

const plain = text(checkPlain);
const count = z.int().min(1).max(1_000_000);
// The longest time that a timer of Node can hold is 2^31 - 1 ms, some 596 hours.
const shortTime = () => seconds(z.number().positive().max(3600));

const signatureAlgorithm = z.enum([
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
]);

const claimValue = z.union([plain, z.number(), z.boolean()]);

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
      .describe('Number of processes that take tunnels: one for each core that they can use')
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
      perAddress: count.prefault(200),
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
        .describe('The most that one tunnel keeps for retransmission, each way'),
      totalMiB: mib(z.int().min(1).max(1_000_000))
        .prefault(256)
        .describe(
          'The most that all of them together keep; then those without a connection end, the oldest first',
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

/** A path in the settings, which becomes absolute. */
type FileSetting = ReturnType<typeof text<string>>;

function issuerSchema(file: FileSetting) {
  return section({
    issuer: plain.describe('Compared with iss byte by byte'),
    audience: plain.describe('A value that aud must contain'),
    jwksUrl: text(readSecureUrl)
      .exactOptional()
      .describe('The URL of its keys; default: discovered from the issuer'),
    jwksFile: file.exactOptional().describe('Or a file with its keys'),
    algorithms: z.array(signatureAlgorithm).min(1).prefault(['ES256', 'EdDSA', 'RS256']),
    groupsClaim: plain.prefault('groups').describe('The claim that lists the groups; without it: no groups'),
    typ: plain
      .exactOptional()
      .describe('The typ its tokens must have, e.g. at+jwt; default: none, JWT or at+jwt'),
    maxLifetimeHours: hours(z.number().positive().max(8784))
      .prefault(24)
      .describe('Longest exp - iat that is accepted'),
    claims: z
      .record(plain, z.union([claimValue, z.array(claimValue).min(1)]))
      .transform((wanted) =>
        Object.entries(wanted).map(([claim, value]) => ({ claim, values: [value].flat() })),
      )
      .prefault({})
      .describe('Claims that its tokens must have: a value, or a list of which one must be there'),
  }).transform(({ jwksUrl, jwksFile, ...settings }, context) => {
    try {
      return { ...settings, keys: issuerKeys(settings.issuer, jwksUrl, jwksFile) };
    } catch (error) {
      context.addIssue({ code: 'custom', message: (error as Error).message });
      return z.NEVER;
    }
  });
}

/** The source of an issuer's keys; `discovery`: named by `{issuer}/.well-known/openid-configuration`. */
type IssuerKeys =
  | { readonly kind: 'file'; readonly file: string }
  | { readonly kind: 'url'; readonly url: URL }
  | { readonly kind: 'discovery' };

function issuerKeys(issuer: string, url: URL | undefined, file: string | undefined): IssuerKeys {
  if (url && file !== undefined) throw new RangeError('jwksUrl and jwksFile are both given; keep one');
  if (url) return { kind: 'url', url };
  if (file !== undefined) return { kind: 'file', file };
  checkDiscoverable(issuer);
  return { kind: 'discovery' };
}

function providerSchema(file: FileSetting) {
  return section({
    name: text(readProviderName).describe('Part of URLs: lower case letters, digits and -'),
    title: plain.exactOptional().describe('The name shown to users; default: name'),
    issuer: text(readIssuerUrl).describe('Its metadata is at {issuer}/.well-known/openid-configuration'),
    clientId: plain,
    clientSecretFile: file
      .exactOptional()
      .describe('A file with the secret and nothing else; default: a public client'),
    scopes: z.array(plain).min(1).prefault(['openid', 'profile']),
    subjectClaim: plain.prefault('sub'),
    groupsClaim: plain.prefault('groups'),
    groups: z
      .record(plain, plain)
      .transform((names) => new Map(Object.entries(names)))
      .exactOptional()
      .describe("Maps the provider's groups to ours, others are dropped; default: groups keep their names"),
    recheck: z
      .boolean()
      .prefault(false)
      .describe('Ask the provider again with each token; it has to issue refresh tokens'),
    subjectPrefix: z
      .string()
      .max(100)
      .exactOptional()
      .describe('Prepended to every subject; default: the name and :'),
  }).transform(({ title, subjectPrefix, ...provider }) => ({
    ...provider,
    title: title ?? provider.name,
    /** Keeps the subjects of two providers, and of the gateway's own accounts, apart. */
    subjectPrefix: subjectPrefix ?? `${provider.name}:`,
  }));
}

const ruleSchema = section({
  name: plain.exactOptional().describe('Its name in explain and the audit'),
  groups: z.array(plain).prefault([]),
  subjects: z.array(plain).prefault([]),
  issuers: z.array(plain).prefault([]).describe('Only principals of these issuers; default: of any'),
  targets: z
    .array(text(readPattern))
    .min(1)
    .describe('name, *.suffix, address or *, each with :port or :*; default port 22'),
});

/** A name that users connect to, and the host it stands for; without a port, the requested one is dialled. */
interface NamedTarget extends ReturnType<typeof readTargetAddress> {
  readonly name: string;
}

function targetList(
  targets: Readonly<Record<string, { readonly address: ReturnType<typeof readTargetAddress> }>>,
  context: z.RefinementCtx,
): readonly NamedTarget[] {
  const names = new Set<string>();
  return Object.entries(targets).flatMap(([key, { address }]) => {
    try {
      const name = readTargetName(key);
      if (names.has(name)) throw new RangeError(`${name} is listed twice`);
      names.add(name);
      return [{ name, ...address }];
    } catch (error) {
      context.addIssue({ code: 'custom', path: [key], message: (error as Error).message });
      return [];
    }
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
