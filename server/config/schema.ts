import { z } from 'zod';
import {
  checkPlain,
  readControl,
  readListen,
  readNameServer,
  readIssuerUrl,
  readOrigin,
  readPattern,
  readProviderName,
  readProxyRange,
  readPublicUrl,
  readRange,
  readSecureUrl,
  readTargetAddress,
} from './setting-parsers.ts';

/** Text that `read` turns into its value; what `read` throws becomes a problem with that message. */
function text<T>(read: (text: string) => T) {
  return z
    .string()
    .min(1)
    .max(2048)
    .transform((value, context): T => {
      try {
        return read(value);
      } catch (error) {
        context.addIssue({ code: 'custom', message: (error as Error).message });
        return z.NEVER;
      }
    });
}

const plain = text(checkPlain);
// The longest time that a timer of Node can hold is 2^31 - 1 ms, some 596 hours.
const seconds = z.number().positive().max(3600);
const count = z.int().min(1).max(1_000_000);

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

const issuer = z.strictObject({
  issuer: plain.describe("Compared with the token's iss byte by byte"),
  audience: plain.describe("What the token's aud must contain"),
  jwksUrl: text(readSecureUrl).optional().describe('Where its keys are; default: discovered from the issuer'),
  jwksFile: plain.optional().describe('Or a file with its keys'),
  algorithms: z.array(signatureAlgorithm).min(1).prefault(['ES256', 'EdDSA', 'RS256']),
  groupsClaim: plain.prefault('groups').describe('The claim that lists the groups'),
  typ: plain.optional().describe('The typ its tokens must have, e.g. at+jwt; default: none, JWT or at+jwt'),
  maxLifetimeHours: z
    .number()
    .positive()
    .max(8784)
    .prefault(24)
    .describe('Longest exp - iat that is believed'),
  claims: z
    .record(plain, z.union([claimValue, z.array(claimValue).min(1)]))
    .prefault({})
    .describe('Claims that its tokens must have: a value, or a list of which one must be there'),
});

const provider = z.strictObject({
  name: text(readProviderName).describe('Stands in paths: lower case letters, digits and -'),
  title: plain.optional().describe('What people see; default: the name'),
  issuer: text(readIssuerUrl).describe('Its metadata is at {issuer}/.well-known/openid-configuration'),
  clientId: plain,
  clientSecretFile: plain.optional().describe('A file with nothing else in it; default: a public client'),
  scopes: z.array(plain).min(1).prefault(['openid', 'profile']),
  subjectClaim: plain.prefault('sub'),
  groupsClaim: plain.prefault('groups'),
  groups: z
    .record(plain, plain)
    .optional()
    .describe('Their groups and what we call them, others are dropped; default: theirs'),
  recheck: z
    .boolean()
    .prefault(false)
    .describe('Ask it again with each token; it has to give refresh tokens'),
  subjectPrefix: z
    .string()
    .max(100)
    .optional()
    .describe('Goes before every subject; default: the name and :'),
});

const rule = z.strictObject({
  name: plain.optional().describe('What explain and the audit call it'),
  groups: z.array(plain).prefault([]),
  subjects: z.array(plain).prefault([]),
  issuers: z.array(plain).prefault([]).describe('Only principals of these issuers; default: any'),
  targets: z
    .array(text(readPattern))
    .min(1)
    .describe('name, *.suffix, address or *, each with :port or :*; default port 22'),
});

/** The settings as they are written. What it gives is checked value by value; `cross-checks.ts` looks at them together. */
export const settingsSchema = z.strictObject({
  listen: text(readListen).prefault('127.0.0.1:8022').describe('The HTTP door behind the web proxy'),
  tls: z
    .strictObject({ certFile: plain, keyFile: plain })
    .optional()
    .describe('To be the edge itself, without a web proxy before it'),
  admin: text(readListen).prefault('127.0.0.1:9464').describe('Health, readiness and metrics'),
  control: text(readControl)
    .prefault('unix:./postern-control.sock')
    .describe('The unix socket of postern-gateway sessions and kill, for its owner alone'),
  workers: z
    .int()
    .min(1)
    .max(32)
    .prefault(1)
    .describe('Processes that take tunnels, as many as there are cores for them'),
  publicUrl: text(readPublicUrl).optional().describe('Where people reach the gateway; ends in /'),
  trustedProxies: z.array(text(readProxyRange)).prefault([]).describe('Whose forwarded headers are believed'),
  entries: z
    .array(z.enum(['relay', 'websocket', 'connect-tcp', 'connect', 'http']))
    .min(1)
    .prefault(['relay', 'websocket', 'connect-tcp', 'connect', 'http']),
  origins: z.array(text(readOrigin)).prefault([]).describe('Web origins whose pages may open tunnels'),
  keyFile: plain.prefault('./postern-key.json').describe("The gateway's own key, made at first need"),
  store: z
    .strictObject({ file: plain.prefault('./postern.db') })
    .prefault({})
    .describe('Accounts, sign-ins, tickets and revocations'),
  signIn: z
    .strictObject({
      accounts: z.boolean().prefault(true).describe('Accounts of the gateway: postern-gateway user'),
      sessionHours: z.number().positive().max(8784).prefault(12).describe('How long a sign-in lasts'),
      accessTokenMinutes: z.number().min(1).max(60).prefault(10),
      deviceFlow: z.boolean().prefault(false).describe('Sign in on another device, by a code'),
      providers: z.array(provider).prefault([]).describe('OpenID Connect'),
    })
    .prefault({}),
  issuers: z.array(issuer).prefault([]).describe('Whose tokens are believed'),
  targets: z
    .record(z.string(), z.strictObject({ address: text(readTargetAddress) }))
    .prefault({})
    .describe('Names and the addresses they stand for'),
  rules: z.array(rule).prefault([]).describe('Who may reach what; deny by default'),
  network: z
    .strictObject({
      allow: z
        .array(text(readRange))
        .prefault([])
        .describe('Ranges that may be dialled; default: ordinary addresses'),
      deny: z.array(text(readRange)).prefault([]).describe('Ranges that may never be dialled'),
      nameServers: z.array(text(readNameServer)).prefault([]).describe("default: the system's"),
    })
    .prefault({}),
  limits: z
    .strictObject({
      tunnels: count.prefault(8000),
      perSubject: count.prefault(100),
      perAddress: count.prefault(200),
      preAuthSeconds: seconds.prefault(10),
      dialSeconds: seconds.prefault(10),
      sessionHours: z.number().positive().max(500).prefault(12),
      graceSeconds: z.number().min(0).max(86_400).prefault(30),
    })
    .prefault({}),
  resume: z
    .strictObject({
      keepMinutes: z
        .number()
        .positive()
        .max(1440)
        .prefault(15)
        .describe('How long a tunnel without a connection is kept'),
      windowKiB: z
        .int()
        .min(64)
        .max(4096)
        .prefault(1024)
        .describe('What one tunnel may keep for sending it again, each way'),
      totalMiB: z.int().min(1).max(1_000_000).prefault(256).describe('What all of them together may keep'),
      carrierMinutes: z
        .number()
        .positive()
        .max(10_000)
        .optional()
        .describe('When something on the way cuts connections; clients come back before'),
    })
    .prefault({})
    .describe('Tunnels that outlive their connections'),
  audit: z
    .strictObject({
      file: plain.prefault('./audit.jsonl'),
      required: z.boolean().prefault(true).describe('Refuse tunnels that cannot be recorded'),
    })
    .prefault({}),
  log: z
    .strictObject({ level: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']).prefault('info') })
    .prefault({}),
});

/** The settings after each value has been read. */
export type SettingsInput = z.output<typeof settingsSchema>;

/** The JSON Schema of `postern.yaml`, for editors. */
export function configJsonSchema(): Record<string, unknown> {
  return { title: 'postern.yaml', ...z.toJSONSchema(settingsSchema, { io: 'input' }) };
}
