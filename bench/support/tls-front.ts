import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createServer } from 'node:tls';
import { authority, certificate, key } from '../../test/client/certificates.ts';

/** TLS before a gateway, as `localhost`. */
export interface TlsFront {
  readonly port: number;
  /** The authority that clients have to trust. */
  readonly caFile: string;
  close(): void;
}

/** Starts TLS before the gateway at this port. `onArrival` is called for each connection before its handshake. */
export async function startTlsFront(
  folder: string,
  gatewayPort: number,
  onArrival?: () => void,
): Promise<TlsFront> {
  const caFile = join(folder, 'ca.pem');
  writeFileSync(caFile, authority);
  const server = createServer({ key, cert: certificate, noDelay: true }, (near) => {
    const far = connect({ port: gatewayPort, host: '127.0.0.1', noDelay: true });
    near.on('error', () => far.destroy());
    far.on('error', () => near.destroy());
    near.pipe(far).pipe(near);
  });
  if (onArrival) server.on('connection', onArrival);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { port: (server.address() as AddressInfo).port, caFile, close: () => void server.close() };
}
