import { formatTarget } from '../../protocol/target.ts';
import { sendRequest } from '../http/exchange.ts';
import { ClientError } from '../errors/failure.ts';
import { gatewayTarget } from '../http/gateway-url.ts';
import type { ClientEntry } from './entry.ts';
import { refusal } from '../http/refusal.ts';

/** The tunnel by HTTP CONNECT (RFC 9110 §9.3.6). A web server that routes by path cannot pass it. */
export const connect: ClientEntry = {
  name: 'connect',
  async open(request, egress, signal) {
    const { gateway } = request;
    if (request.createProof !== undefined) throw cannotProve();
    const peer = gateway.host;
    const socket = await egress.connect(gatewayTarget(gateway), signal);
    const authority = formatTarget(request.target);
    // HAProxy refuses a Host that is not the authority.
    const headers = { Host: authority, 'Proxy-Authorization': `Bearer ${request.token.reveal()}` };
    const answer = await sendRequest(socket, { method: 'CONNECT', path: authority, headers, peer }, signal);
    if (answer.status >= 200 && answer.status < 300) return socket;
    const failure = await refusal(answer, peer);
    socket.destroy();
    throw failure;
  },
};

/** A DPoP proof covers a URL, and the target of a CONNECT is none. */
function cannotProve(): ClientError {
  return new ClientError('UPGRADE_REFUSED', 'the connect entry cannot carry the DPoP proof of a sign-in', {
    hint: 'postern ticket --help',
  });
}
