import { requestJson } from '../http/json-request.ts';
import { describeServer } from '../http/refusal.ts';
import { ClientError, toFailure } from '../errors/failure.ts';
import { check, failed, good } from './check.ts';
import type { Outcome, FetchedPage, Explanation } from './check.ts';

const speaker = { check: 'http', title: 'HTTP' };
const maxBytes = 64 * 1024;

/** Whether the web server answers, and has something at the gateway's path. */
export const web = check({
  name: 'http',
  title: 'HTTP',
  needs: ['isConnected'],
  limitMs: 10_000,
  async run(_found, { settings, egress }, signal): Promise<Outcome> {
    const { gateway } = settings;
    let page: FetchedPage;
    try {
      page = await fetchPage(new URL('.well-known/postern', gateway), egress, signal);
    } catch (error) {
      const failure = toFailure(error);
      const isLate = failure.code === 'GATEWAY_TIMEOUT' || failure.code === 'UPGRADE_REFUSED';
      return { findings: [failed(speaker, failure, isLate ? lateWords : notHttpWords)] };
    }
    const { status, who: server } = page;
    // Pages and redirections are an answer too; whose, the next check says.
    if (status < 400) return { findings: [good(speaker, `${server} answers ${status}`)], found: { page } };
    const failure = new ClientError('HTTP_UNEXPECTED', `${server} answered ${status} at ${gateway.pathname}`);
    return { findings: [failed(speaker, failure, statusWords(page, gateway))] };
  },
});

async function fetchPage(
  url: URL,
  egress: Parameters<typeof requestJson>[0],
  signal: AbortSignal,
): Promise<FetchedPage> {
  const askedAt = Date.now();
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
    // What has come is enough to tell what it is.
  } finally {
    response.destroy();
  }
  return {
    status,
    type: headers['content-type'] ?? '',
    body: Buffer.concat(chunks).toString(),
    who: describeServer(response, peer),
    askedAt,
    ...(headers.location === undefined ? {} : { location: headers.location }),
    ...(Number.isNaN(date) ? {} : { date }),
  };
}

const lateWords: Explanation = {
  meaning: 'the connection stands, but the web server says nothing: it is overloaded, or stuck.',
  advice: 'try again in a minute; then tell those who run the gateway.',
};

const notHttpWords: Explanation = {
  meaning: 'what listens there is no web server, or closes without a word.',
  advice: 'check the gateway URL; if it is right, tell those who run the gateway.',
};

function statusWords({ status, type }: FetchedPage, gateway: URL): Explanation {
  if (status === 502 || status === 503 || status === 504) {
    return {
      meaning:
        'the web server is there, but the gateway behind it does not answer: it is not running, or the web server looks for it at the wrong address.',
      advice: 'tell those who run the gateway. On its machine this says more: postern-gateway doctor',
    };
  }
  if (status === 404 && /problem\+json/i.test(type)) {
    return {
      meaning: `a gateway is there, but not at the path ${gateway.pathname}.`,
      advice: 'check the path of the gateway URL: it is the publicUrl of the gateway.',
    };
  }
  if (status === 404) {
    return {
      meaning: `the web server is there, but has nothing of Postern at ${gateway.pathname}: the path is wrong, or the web server does not forward it.`,
      advice: `check the path of the gateway URL, often /ssh/; then tell those who run the gateway.`,
    };
  }
  if (status === 401 || status === 403 || status === 407) {
    return {
      meaning: 'something before the gateway wants a sign-in of its own, or does not allow this address.',
      advice:
        'ask those who run the gateway whether its web server, or a proxy on the way, is meant to do that.',
    };
  }
  return {
    meaning: 'the web server is there, but does not answer as one with a gateway behind it.',
    advice: 'tell those who run the gateway; the answer names who gave it.',
  };
}
