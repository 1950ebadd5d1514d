import { Failure } from '../errors/failure.ts';
import { passHeaders } from '../credentials/with-credential.ts';
import { networkId } from '../os/network-id.ts';
import type { Carrier } from '../../stream/carrier.ts';
import type { CarrierQuestion, CarrierWay } from './connector.ts';
import { HttpCarrier } from './http-carrier.ts';
import type { HttpCarrierOptions } from './http-carrier.ts';
import { Lines } from './http-connections.ts';
import { refusal, who } from '../entry/refusal.ts';

/**
 * Carriers that are requests and answers (docs/entry/http.md). Where something holds long answers back, the next
 * carrier in the same network begins with brief ones.
 */
export function httpWay(): CarrierWay {
  let heldBackIn: string | undefined;
  return {
    open(question) {
      const network = networkId();
      return open(question, {
        isBrief: network === heldBackIn || (question.heldBack?.recall() ?? false),
        onHeldBack() {
          heldBackIn = network;
          question.heldBack?.keep();
        },
      });
    },
  };
}

async function open(
  { gateway, kind, query, pass, fields, egress, signal, onConnected }: CarrierQuestion,
  style: Pick<HttpCarrierOptions, 'isBrief' | 'onHeldBack'>,
): Promise<Carrier> {
  const url = new URL(`${gateway.pathname}http/${kind}`, gateway);
  const headers = { ...passHeaders(pass, 'POST', url), ...fields };
  url.search = new URLSearchParams(query).toString();
  const peer = gateway.host;
  const lines = new Lines(gateway, egress);
  try {
    const question = { method: 'POST', path: url.pathname + url.search, headers, body: empty } as const;
    const response = await lines.ask(question, { signal, ...(onConnected && { onConnected }) });
    const status = response.statusCode!;
    if (status !== 200) throw await refusal({ response, status, body: response }, peer);
    if (!isRecords(response.headers['content-type'])) {
      response.destroy();
      throw new Failure('HTTP_UNEXPECTED', `${who(response, peer)} answered 200 in words that are not ours`);
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
