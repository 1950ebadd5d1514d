import type { TableName } from './store.ts';

/** Where the rows of a table lie in SQLite: those of the name whose keys begin with the prefix. */
export interface Location {
  readonly name: string;
  readonly prefix: string;
}

/** As databases have them since the first release; the tables of oidc-provider lie in `oauth` under their own names. */
const locations: Readonly<Record<Exclude<TableName, `oidc.${string}`>, Location>> = {
  accounts: { name: 'accounts', prefix: '' },
  revocations: { name: 'revocations', prefix: '' },
  tickets: { name: 'tickets', prefix: '' },
  gatewayKey: { name: 'gatewayKey', prefix: '' },
  instances: { name: 'instances', prefix: '' },
  signingKeys: { name: 'signingKeys', prefix: 'oauth:' },
  issuerKeys: { name: 'issuerKeys', prefix: '' },
  loginAttempts: { name: 'signInAttempts', prefix: '' },
  deviceCodeAttempts: { name: 'signInAttempts', prefix: 'device:' },
  signIn: { name: 'oauth', prefix: 'signIn:' },
  signInsOfSubject: { name: 'oauth', prefix: 'signInsOf:' },
  signInsOfOrigin: { name: 'oauth', prefix: 'signInsFrom:' },
  upstreamIdentity: { name: 'oauth', prefix: 'identity:' },
  upstreamRefresh: { name: 'oauth', prefix: 'recheck:' },
  upstreamLogout: { name: 'oauth', prefix: 'logout:' },
  pendingLogin: { name: 'oauth', prefix: 'away:' },
  loginResult: { name: 'oauth', prefix: 'back:' },
  rowsOfGrant: { name: 'oauth', prefix: 'grant:' },
};

export function locationOf(table: TableName): Location {
  return Object.hasOwn(locations, table)
    ? locations[table as keyof typeof locations]
    : { name: 'oauth', prefix: `${table.slice('oidc.'.length)}:` };
}
