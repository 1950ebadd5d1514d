import { z } from 'zod';
import {
  checkDiscoverable,
  checkPlain,
  readIssuerUrl,
  readPattern,
  readProviderName,
  readSecureUrl,
  readTargetAddress,
  readTargetName,
} from './setting-parsers.ts';
import { hours, section, text } from './setting-types.ts';

// The items of the lists of settings: issuers, identity providers, targets and rules.

const plain = text(checkPlain);

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

/** A path in the settings, which becomes absolute. */
type FileSetting = ReturnType<typeof text<string>>;

/** One of `issuers`. */
export function issuerSchema(file: FileSetting) {
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

/** One of `signIn.providers`. */
export function providerSchema(file: FileSetting) {
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
      .describe("Maps the provider's groups to ours; others are dropped. Default: groups keep their names"),
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

/** One of `rules`. */
export const ruleSchema = section({
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
export interface NamedTarget extends ReturnType<typeof readTargetAddress> {
  readonly name: string;
}

/** Turns `targets` into a list with the names in lower case. */
export function targetList(
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
