import { ClientError } from '../errors/failure.ts';
import { authHeaders } from '../credentials/with-credential.ts';
import { networkId } from '../os/network-id.ts';
import type { Carrier } from '../../stream/carrier.ts';
import type { ConnectorRequest, CarrierConnector } from './connector.ts';
import { HttpCarrier } from './http-carrier.ts';
import type { HttpCarrierOptions } from './http-carrier.ts';
import { ConnectionPool } from './http-connections.ts';
import { refusal, describeServer } from '../http/refusal.ts';

/**
 * Opens carriers that consist of requests and responses (docs/entry/http.md). Where an intermediary buffers long
 * responses, the next carrier in the same network begins with short ones.
 */
export function httpConnector(): CarrierConnector {
  let bufferedIn: string | undefined;
  return {
    open(request) {
      const network = networkId();
      return open(request, {
        isShortResponse: network === bufferedIn || (request.isBuffered?.recall() ?? false),
        onBuffered() {
          bufferedIn = network;
          request.isBuffered?.keep();
        },
      });
    },
  };
}

async function open(
  { gateway, kind, query, pass, fields, egress, signal, onConnected }: ConnectorRequest,
  style: Pick<HttpCarrierOptions, 'isShortResponse' | 'onBuffered'>,
): Promise<Carrier> {
  const url = new URL(`${gateway.pathname}http/${kind}`, gateway);
  const headers = { ...authHeaders(pass, 'POST', url), ...fields };
  url.search = new URLSearchParams(query).toString();
  const peer = gateway.host;
  const connections = new ConnectionPool(gateway, egress);
  try {
    const request = { method: 'POST', path: url.pathname + url.search, headers, body: empty } as const;
    const response = await connections.request(request, { signal, ...(onConnected && { onConnected }) });
    const status = response.statusCode!;
    if (status !== 200) throw await refusal({ response, status, body: response }, peer);
    if (!isRecords(response.headers['content-type'])) {
      response.destroy();
      throw new ClientError(
        'HTTP_UNEXPECTED',
        `${describeServer(response, peer)} answered 200 with an unknown content type`,
      );
    }
    return await HttpCarrier.open(response, { gateway, connections, signal, ...style });
  } catch (error) {
    connections.close();
    throw error;
  }
}

const empty = Buffer.alloc(0);

function isRecords(type: string | undefined): boolean {
  return /^application\/octet-stream\s*(?:;|$)/i.test(type ?? '');
}
