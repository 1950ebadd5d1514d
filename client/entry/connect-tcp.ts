import { capsuleCodes } from '../../protocol/capsule.ts';
import { capsuleStream } from '../../stream/capsule-stream.ts';
import { sendRequest } from '../http/exchange.ts';
import { ClientError } from '../errors/failure.ts';
import { authHeaders } from '../credentials/with-credential.ts';
import { gatewayTarget } from '../http/gateway-url.ts';
import { tunnelPath } from './entry.ts';
import type { ClientEntry } from './entry.ts';
import { refusal, describeServer } from '../http/refusal.ts';

const token = 'connect-tcp';
const codes = capsuleCodes(token)!;

/** The tunnel by `Upgrade: connect-tcp` and capsules (draft-ietf-httpbis-connect-tcp). */
export const connectTcp: ClientEntry = {
  name: 'connect-tcp',
  async open(request, egress, signal) {
    const { gateway } = request;
    const peer = gateway.host;
    const socket = await egress.connect(gatewayTarget(gateway), signal);
    const headers = {
      Host: gateway.host,
      Connection: 'Upgrade',
      Upgrade: token,
      'Capsule-Protocol': '?1',
      ...authHeaders(request, 'GET', new URL(tunnelPath(request), gateway)),
    };
    const answer = await sendRequest(
      socket,
      { method: 'GET', path: tunnelPath(request), headers, peer },
      signal,
    );
    if (answer.switched && isRequestedProtocol(answer.response.headersDistinct['upgrade']))
      return capsuleStream(socket, codes, { hearsReasons: true });
    const failure = answer.switched
      ? new ClientError(
          'UPGRADE_REFUSED',
          `${describeServer(answer.response, peer)} switched to a protocol other than ${token}`,
        )
      : await refusal(answer, peer);
    socket.destroy();
    throw failure;
  },
};

/** Whether the field holds exactly one token, the requested one. */
function isRequestedProtocol(upgrade: readonly string[] | undefined): boolean {
  return upgrade?.length === 1 && upgrade[0]!.toLowerCase() === token;
}
