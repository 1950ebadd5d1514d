import { makeCertificates } from './certificates.ts';
import { startGateway } from './gateway.ts';
import type { Gateway } from './gateway.ts';
import { openNetwork } from './network.ts';
import type { Network } from './network.ts';
import { freePort, output, start, within } from './process.ts';
import type { Scratch } from './scratch.ts';

/** A gateway in a network of its own, with TLS, whose target `silent` reads and says nothing. */
export interface SilentTarget {
  readonly network: Network;
  readonly gateway: Gateway;
  /** The settings of a client in `network.client`. */
  readonly env: Readonly<Record<string, string>>;
}

/** Starts it; the kernel of its client answers for a process that is gone for 2 s only, and not for a minute. */
export async function startSilentTarget(scratch: Scratch, settings: object = {}): Promise<SilentTarget> {
  const network = await openNetwork(scratch);
  await output(within(network.client, ['sysctl', '-qw', 'net.ipv4.tcp_fin_timeout=2']));
  const [certificates, silent] = [await makeCertificates(scratch), await freePort()];
  const server = `require('node:net').createServer({ allowHalfOpen: true }, (s) => s.on('error', () => {}).resume()).listen(${silent}, '127.0.0.1')`;
  await start(scratch, [process.execPath, '-e', server], { port: silent });
  const gateway = await startGateway(scratch, {
    targets: { silent: `127.0.0.1:${silent}` },
    tls: certificates,
    publicHost: 'gw.example',
    address: network.address,
    settings,
  });
  const env = {
    POSTERN_GATEWAY: `https://gw.example:${gateway.port}/ssh/`,
    POSTERN_TOKEN_FILE: gateway.tokenFile,
    POSTERN_CA_FILE: certificates.authorityFile,
  };
  return { network, gateway, env };
}
