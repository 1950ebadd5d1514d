import { isAddress } from '../../../protocol/target.ts';
import { printable } from '../../os/terminal.ts';
import { splitUser } from './credentials.ts';
import type { ProxyCredentials } from './credentials.ts';
import type { KerberosClient, LoadKerberos } from './kerberos-package.ts';
import { SchemeUnavailable } from './scheme.ts';
import type { CredentialRequest, AuthExchange } from './scheme.ts';

/** No delegation and no mutual authentication: the proxy only forwards TLS. */
const noFlags = 0;

/** How to start. */
export interface NegotiateOptions {
  readonly load: LoadKerberos;
  readonly platform: NodeJS.Platform;
  /** On Windows used instead of the logged-on user; on other systems the ticket is used. */
  readonly credentials?: ProxyCredentials;
}

/** Negotiate (RFC 4559) with the system's own Kerberos: GSSAPI with a ticket, or SSPI. Takes as many steps as both ends need. */
export function negotiate({ proxyHost }: CredentialRequest, options: NegotiateOptions): AuthExchange {
  let client: KerberosClient | undefined;
  return {
    get isInProgress() {
      return client !== undefined;
    },
    get hasSentCredential() {
      return client !== undefined && options.platform === 'win32' && options.credentials !== undefined;
    },
    async answer(challenges) {
      const token = challenges.find((each) => each.token !== undefined)?.token;
      if (client !== undefined && token === undefined) return undefined;
      try {
        client ??= await begin(proxyHost, options);
        await client.step(token ?? '');
      } catch (cause) {
        throw cause instanceof SchemeUnavailable ? cause : noTicket(cause, options.platform);
      }
      return client.response === null || client.response === ''
        ? undefined
        : `Negotiate ${client.response.replaceAll(/\s/g, '')}`;
    },
  };
}

async function begin(proxyHost: string, options: NegotiateOptions): Promise<KerberosClient> {
  const { load, platform, credentials } = options;
  const isWindows = platform === 'win32';
  if (isAddress(proxyHost) && !isWindows) {
    throw new SchemeUnavailable('Kerberos needs the name of the proxy, which is given by address', '');
  }
  const kerberos = load();
  const service = isWindows ? `HTTP/${proxyHost}` : `HTTP@${proxyHost}`;
  const common = { mechOID: kerberos.GSS_MECH_OID_SPNEGO, flags: noFlags };
  if (!isWindows || credentials === undefined) return kerberos.initializeClient(service, common);
  const { domain, name } = splitUser(credentials.user);
  return kerberos.initializeClient(service, {
    ...common,
    user: name,
    domain,
    password: credentials.password.reveal(),
  });
}

function noTicket(cause: unknown, platform: NodeJS.Platform): SchemeUnavailable {
  const what = printable(cause instanceof Error ? cause.message : String(cause)).slice(0, 200);
  return new SchemeUnavailable(`Kerberos: ${what}`, platform === 'win32' ? 'klist' : 'kinit', { cause });
}
