import { requestJson } from '../http/json-request.ts';
import { describeServer } from '../http/refusal.ts';
import { toFailure } from '../errors/failure.ts';
import { check, warning, ok, skip } from './check.ts';
import type { ClientOutcome, ClientDoctorContext } from './check.ts';

const id = { check: 'headers', title: 'large headers' };

/** Sizes of header fields in bytes: the largest token with its field name and scheme, and smaller ones. */
const sizes = [8 * 1024 + 64, 4096, 2048, 1024];

/** Whether a request with a large token would arrive. */
export const headers = check({
  name: 'headers',
  title: 'large headers',
  needs: ['gateway'],
  limitMs: 10_000,
  async run(_found, context, signal): Promise<ClientOutcome> {
    let refusedBy = '';
    for (const size of sizes) {
      const refusal = await refusalOf(size, context, signal);
      if (refusal === undefined) return { findings: [outcome(size, refusedBy)] };
      refusedBy = refusal;
    }
    return { findings: [skip(id, refusedBy)] };
  },
});

function outcome(size: number, refusedBy: string): ReturnType<typeof ok> {
  if (size === sizes[0]) return ok(id, 'tokens of up to 8 KiB arrive');
  return warning(id, `headers of up to ${size / 1024} KiB arrive, but larger ones do not: ${refusedBy}`, {
    meaning: 'users in many groups have large tokens, and would be rejected.',
    advice:
      'tell the operators of the web server. For nginx: large_client_header_buffers 4 16k; for Apache: LimitRequestFieldSize 16380',
  });
}

/** Describes the refusal; undefined when the request has arrived. */
async function refusalOf(
  size: number,
  { settings, egress }: ClientDoctorContext,
  signal: AbortSignal,
): Promise<string | undefined> {
  const url = new URL('.well-known/postern', settings.gateway);
  try {
    const fields = { 'X-Postern-Doctor': 'x'.repeat(size) };
    const { answer, peer } = await requestJson(egress, { method: 'GET', url, headers: fields }, signal);
    answer.response.destroy();
    return answer.status === 200
      ? undefined
      : `${describeServer(answer.response, peer)} answered ${answer.status}`;
  } catch (error) {
    return toFailure(error).message;
  }
}
