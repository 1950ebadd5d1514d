import type { Settings } from './schema.ts';

/** The same without a way to change it; what the program is told once stays as it is. */
type Immutable<T> = T extends URL
  ? T
  : T extends ReadonlyMap<infer Key, infer Value>
    ? ReadonlyMap<Key, Value>
    : T extends readonly (infer Item)[]
      ? readonly Immutable<Item>[]
      : T extends object
        ? { readonly [Key in keyof T]: Immutable<T[Key]> }
        : T;

/**
 * The checked configuration of the gateway: the settings of `schema.ts`, where each key, its unit and its default are
 * declared, and a `publicUrl` that is always there. `parse.ts` is the only reader of raw settings.
 */
export type Config = Immutable<Settings> & { readonly publicUrl: URL };

/** An address to listen on: a TCP address, or the path of a unix socket. */
export type ListenAddress = Config['listen'];

/** A trusted issuer of tokens, and the conditions its tokens have to meet. */
export type IssuerConfig = Config['issuers'][number];
export type SignatureAlgorithm = IssuerConfig['algorithms'][number];

/** A condition on a claim: it has one of the values or, being a list, contains one of them. */
export type ClaimCondition = IssuerConfig['claims'][number];

/** An identity provider (OpenID Connect) at which people sign in. */
export type ProviderConfig = Config['signIn']['providers'][number];

export type TargetConfig = Config['targets'][number];
export type RuleConfig = Config['rules'][number];
export type NetworkConfig = Config['network'];
export type Limits = Config['limits'];
