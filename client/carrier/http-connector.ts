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
 * Carriers that are requests and answers (docs/entry/http.md). Where something holds long answers back, the next
 * carrier in the same network begins with brief ones.
 */
export function httpConnector(): CarrierConnector {
  let heldBackIn: string | undefined;
  return {
    open(question) {
      const network = networkId();
      return open(question, {
        isShortResponse: network === heldBackIn || (question.isBuffered?.recall() ?? false),
        onHeldBack() {
          heldBackIn = network;
          question.isBuffered?.keep();
        },
      });
    },
  };
}

async function open(
  { gateway, kind, query, pass, fields, egress, signal, onConnected }: ConnectorRequest,
  style: Pick<HttpCarrierOptions, 'isShortResponse' | 'onHeldBack'>,
): Promise<Carrier> {
  const url = new URL(`${gateway.pathname}http/${kind}`, gateway);
  const headers = { ...authHeaders(pass, 'POST', url), ...fields };
  url.search = new URLSearchParams(query).toString();
  const peer = gateway.host;
  const lines = new ConnectionPool(gateway, egress);
  try {
    const question = { method: 'POST', path: url.pathname + url.search, headers, body: empty } as const;
    const response = await lines.ask(question, { signal, ...(onConnected && { onConnected }) });
    const status = response.statusCode!;
    if (status !== 200) throw await refusal({ response, status, body: response }, peer);
    if (!isRecords(response.headers['content-type'])) {
      response.destroy();
      throw new ClientError(
        'HTTP_UNEXPECTED',
        `${describeServer(response, peer)} answered 200 in words that are not ours`,
      );
    }
    return await HttpCarrier.open(response, { gateway, lines, signal, ...style });
  } catch (error) {
    lines.close();
    throw error;
  }
}

const empty = Buffer.alloc(0);

function isRecords(type: string | undefined): boolean {
  return /^application\/octet-stream\s*(?:;|$)/i.test(type ?? '');
}
