import { authenticatorChain } from '../auth/authenticator-chain.ts';
import type { Authenticator } from '../auth/authenticator.ts';
import type { SigningKey } from '../auth/gateway-key.ts';
import { trustedIssuers } from '../auth/jwt/issuers.ts';
import { jwtAuthenticator } from '../auth/jwt/jwt-authenticator.ts';
import { ticketAuthenticator } from '../auth/ticket-authenticator.ts';
import type { Config } from '../config/config.ts';
import { addressCheck } from '../dial/address-policy.ts';
import { tcpDialer } from '../dial/tcp.ts';
import { remoteAddressBehind } from '../http/client-address.ts';
import type { RemoteAddress } from '../http/client-address.ts';
import type { PipelineSettings } from '../pipeline.ts';
import { rulesPolicy } from '../policy/rules.ts';
import type { GatewayState } from './state.ts';

/** The parts that a reload replaces, all of them at once. */
export interface GatewaySettings {
  readonly config: Config;
  /** Accepts tokens only; the authenticator of the pipeline accepts tickets too. */
  readonly tokens: Authenticator;
  readonly pipeline: PipelineSettings;
  readonly remoteAddress: RemoteAddress;
}

/** Builds the parts for a configuration, with the key that `openKey` opens. Rejects when it does. */
export async function buildSettings(
  config: Config,
  { tickets, proofs, signingKeys, issuerKeys }: GatewayState,
  openKey: () => Promise<SigningKey>,
): Promise<GatewaySettings> {
  const issuers = trustedIssuers(config, await openKey(), {
    signInKeys: signingKeys.source,
    issuerKeys,
  });
  const { network, limits } = config;
  const ownAddresses = [config.listen, config.admin];
  const tokens = jwtAuthenticator(issuers, { proofs });
  return {
    config,
    tokens: authenticatorChain([tokens]),
    remoteAddress: remoteAddressBehind(config.trustedProxies),
    pipeline: {
      authenticator: authenticatorChain([ticketAuthenticator(tickets), tokens]),
      policy: rulesPolicy(config),
      dialer: tcpDialer({ network, limits, ownAddresses }),
      evaluateAddress: addressCheck({ network, ownAddresses }),
      limits,
    },
  };
}
