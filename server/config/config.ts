import type { TargetPattern } from '../../protocol/target-pattern.ts';

/** Where to listen: a TCP address, or the path of a unix socket. */
export type ListenAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

export type SignatureAlgorithm =
  'ES256' | 'ES384' | 'ES512' | 'EdDSA' | 'RS256' | 'RS384' | 'RS512' | 'PS256' | 'PS384' | 'PS512';

/** An issuer whose tokens are believed, and on what conditions. */
export interface IssuerConfig {
  /** Compared with the token's `iss` byte by byte. */
  readonly issuer: string;
  readonly audience: string;
  /** Where its keys are. `discovery`: named by `{issuer}/.well-known/openid-configuration`. */
  readonly keys:
    | { readonly kind: 'file'; readonly file: string }
    | { readonly kind: 'url'; readonly url: URL }
    | { readonly kind: 'discovery' };
  readonly algorithms: readonly SignatureAlgorithm[];
  /** The claim that lists the groups; absent claim: no groups. */
  readonly groupsClaim: string;
  /** The `typ` a token's header must have, e.g. `at+jwt`; undefined: any but a type that is known to be another kind. */
  readonly typ?: string;
  /** Longest `exp - iat` that is believed. */
  readonly maxLifetimeMs: number;
  /** Claims that a token must have, each with one of these values. */
  readonly claims: readonly ClaimCondition[];
}

/** A claim has to have one of the values; a claim that is a list, to have one of them in it. */
export interface ClaimCondition {
  readonly claim: string;
  readonly values: readonly (string | number | boolean)[];
}

/** An identity provider (OpenID Connect) at which people sign in. */
export interface ProviderConfig {
  /** Stands in paths: lower case letters, digits and `-`. */
  readonly name: string;
  /** What people see. */
  readonly title: string;
  readonly issuer: string;
  readonly clientId: string;
  /** Absent: the provider knows us as a public client. */
  readonly clientSecretFile?: string;
  readonly scopes: readonly string[];
  readonly subjectClaim: string;
  readonly groupsClaim: string;
  /** Their groups → ours; a group that is not in it is dropped. Absent: theirs are ours. */
  readonly groups?: ReadonlyMap<string, string>;
  /** It is asked again, with each token, whether a person may still sign in and what groups they have. */
  readonly recheck: boolean;
  /** Goes before what `subjectClaim` says, so that no two providers, and no account of the gateway, share a subject. */
  readonly subjectPrefix: string;
}

/** How people sign in with a browser. */
export interface SignInConfig {
  /** Whether the gateway's own accounts may sign in (`postern-gateway user`). */
  readonly accounts: boolean;
  /** How long a sign-in lasts; then people sign in again. */
  readonly sessionMs: number;
  readonly accessTokenMs: number;
  readonly deviceFlow: boolean;
  readonly providers: readonly ProviderConfig[];
}

/** A name that people use, and where it is. */
export interface TargetConfig {
  readonly name: string;
  /** A host of its own; without a port the port that was asked for is dialled. */
  readonly host: string;
  readonly port?: number;
}

export interface RuleConfig {
  /** `rule 2 (postern.yaml:31)`: what explain and the audit call it. */
  readonly name: string;
  readonly groups: readonly string[];
  readonly subjects: readonly string[];
  /** Only principals of these issuers; empty: any. */
  readonly issuers: readonly string[];
  readonly targets: readonly TargetPattern[];
}

export interface NetworkConfig {
  /** CIDR ranges that may be dialled; empty: every ordinary unicast address. */
  readonly allow: readonly string[];
  /** CIDR ranges that may never be dialled. */
  readonly deny: readonly string[];
  /** Name servers as `address` or `address:port`; empty: the system's. */
  readonly nameServers: readonly string[];
}

export interface Limits {
  readonly tunnels: number;
  readonly perSubject: number;
  readonly perAddress: number;
  readonly preAuthMs: number;
  readonly dialMs: number;
  readonly sessionMs: number;
  /** How long a stopping gateway waits for its tunnels. */
  readonly graceMs: number;
}

/** Tunnels that outlive their connections. */
export interface ResumeConfig {
  /** How long a tunnel without a connection is kept. */
  readonly keepMs: number;
  /** What one tunnel may keep for sending it again, in each direction. */
  readonly windowBytes: number;
  /** What all of them together may keep; then those without a connection are ended, the oldest first. */
  readonly totalBytes: number;
  /** How old connections get on the way to here; clients come back before. Absent: they find out. */
  readonly carrierMs?: number;
}

export type EntryName = 'relay' | 'websocket' | 'connect-tcp' | 'connect' | 'http';

/** Everything the gateway is told, checked; `parse.ts` is the only reader of raw settings. */
export interface Config {
  readonly listen: ListenAddress;
  readonly tls?: { readonly certFile: string; readonly keyFile: string };
  readonly admin: ListenAddress;
  /** The unix socket for `sessions` and `kill`; its owner alone may connect. */
  readonly control: Extract<ListenAddress, { kind: 'unix' }>;
  /** How many processes take tunnels; with more than one, another process leads them. */
  readonly workers: number;
  /** Where people reach this gateway; its path is the prefix, and ends in `/`. */
  readonly publicUrl: URL;
  readonly trustedProxies: readonly string[];
  readonly entries: readonly EntryName[];
  /** Web origins whose pages may open tunnels; requests with any other `Origin` are refused. */
  readonly origins: readonly string[];
  /** The gateway's own signing key, made at first need with mode 0600. */
  readonly keyFile: string;
  /** What has to survive a restart: accounts, sign-ins, tickets, revocations. */
  readonly store: { readonly file: string };
  readonly signIn: SignInConfig;
  readonly issuers: readonly IssuerConfig[];
  readonly targets: readonly TargetConfig[];
  readonly rules: readonly RuleConfig[];
  readonly network: NetworkConfig;
  readonly limits: Limits;
  readonly resume: ResumeConfig;
  readonly audit: { readonly file: string; readonly required: boolean };
  readonly log: { readonly level: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent' };
}
