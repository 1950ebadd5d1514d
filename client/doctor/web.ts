import type { Explanation } from '../../diagnostics/finding.ts';
import { requestJson } from '../http/json-request.ts';
import { describeServer } from '../http/refusal.ts';
import { ClientError, toFailure } from '../errors/failure.ts';
import { check, failed, ok } from './check.ts';
import type { ClientOutcome, FetchedPage } from './check.ts';

const id = { check: 'http', title: 'HTTP' };
const maxBytes = 64 * 1024;

/** Whether the web server answers, and serves the gateway's path. */
export const web = check({
  name: 'http',
  title: 'HTTP',
  needs: ['isConnected'],
  limitMs: 10_000,
  async run(_found, { settings, egress }, signal): Promise<ClientOutcome> {
    const { gateway } = settings;
    let page: FetchedPage;
    try {
      page = await fetchPage(new URL('.well-known/postern', gateway), egress, signal);
    } catch (error) {
      const failure = toFailure(error);
      const isTimeout = failure.code === 'GATEWAY_TIMEOUT' || failure.code === 'UPGRADE_REFUSED';
      return { findings: [failed(id, failure, isTimeout ? timeoutWords : notHttpWords)] };
    }
    const { status, server } = page;
    // Pages and redirects are an answer too; the next check says from which server.
    if (status < 400) return { findings: [ok(id, `${server} answers ${status}`)], found: { page } };
    const failure = new ClientError('HTTP_UNEXPECTED', `${server} answered ${status} at ${gateway.pathname}`);
    return { findings: [failed(id, failure, statusWords(page, gateway))] };
  },
});

async function fetchPage(
  url: URL,
  egress: Parameters<typeof requestJson>[0],
  signal: AbortSignal,
): Promise<FetchedPage> {
  const requestedAt = Date.now();
  const { answer, peer } = await requestJson(egress, { method: 'GET', url }, signal);
  const { response, status } = answer;
  const { headers } = response;
  const date = Date.parse(headers.date ?? '');
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of response) {
      chunks.push(chunk as Buffer);
      size += (chunk as Buffer).length;
      if (size > maxBytes) break;
    }
  } catch {
    // What has arrived is enough to recognize it.
  } finally {
    response.destroy();
  }
  return {
    status,
    type: headers['content-type'] ?? '',
    body: Buffer.concat(chunks).toString(),
    server: describeServer(response, peer),
    requestedAt,
    ...(headers.location === undefined ? {} : { location: headers.location }),
    ...(Number.isNaN(date) ? {} : { date }),
  };
}

const timeoutWords: Explanation = {
  meaning: 'the connection is open, but the web server sends nothing: it is overloaded or stuck.',
  advice: 'try again in a minute; then tell the operators of the gateway.',
};

const notHttpWords: Explanation = {
  meaning: 'the program that listens there is not a web server, or closes the connection without a response.',
  advice: 'check the gateway URL; if it is right, tell the operators of the gateway.',
};

function statusWords({ status, type }: FetchedPage, gateway: URL): Explanation {
  if (status === 502 || status === 503 || status === 504) {
    return {
      meaning:
        'the web server is up, but the gateway behind it does not answer: it is not running, or the web server forwards to the wrong address.',
      advice: 'tell the operators of the gateway. For details, run on its machine: postern-gateway doctor',
    };
  }
  if (status === 404 && /problem\+json/i.test(type)) {
    return {
      meaning: `there is a gateway, but not at the path ${gateway.pathname}.`,
      advice: 'check the path of the gateway URL: it is the publicUrl of the gateway.',
    };
  }
  if (status === 404) {
    return {
      meaning: `the web server is up, but does not serve Postern at ${gateway.pathname}: the path is wrong, or the web server does not forward it.`,
      advice: `check the path of the gateway URL, often /ssh/; then tell the operators of the gateway.`,
    };
  }
  if (status === 401 || status === 403 || status === 407) {
    return {
      meaning:
        'something in front of the gateway requires a sign-in of its own, or does not allow this address.',
      advice:
        'ask the operators of the gateway whether its web server, or a proxy on the path, is meant to do that.',
    };
  }
  return {
    meaning: 'the web server is up, but does not answer like one with a gateway behind it.',
    advice: 'tell the operators of the gateway; the response names the server.',
  };
}
