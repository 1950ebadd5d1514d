import { requestJson } from '../http/json-request.ts';
import { describeServer } from '../http/refusal.ts';
import { toFailure } from '../errors/failure.ts';
import { check, costly, good, unchecked } from './check.ts';
import type { Outcome, DoctorContext } from './check.ts';

const speaker = { check: 'headers', title: 'large headers' };

/** What the largest token takes with its name and its scheme, and what lesser tokens take. */
const sizes = [8 * 1024 + 64, 4096, 2048, 1024];

/** Whether the request of somebody with a large token would arrive. */
export const headers = check({
  name: 'headers',
  title: 'large headers',
  needs: ['gateway'],
  limitMs: 10_000,
  async run(_found, place, signal): Promise<Outcome> {
    let refusedBy = '';
    for (const size of sizes) {
      const refusal = await refusalOf(size, place, signal);
      if (refusal === undefined) return { findings: [outcome(size, refusedBy)] };
      refusedBy = refusal;
    }
    return { findings: [unchecked(speaker, refusedBy)] };
  },
});

function outcome(size: number, refusedBy: string): ReturnType<typeof good> {
  if (size === sizes[0]) return good(speaker, 'tokens of up to 8 KiB arrive');
  return costly(speaker, `headers of ${size / 1024} KiB arrive, of more not: ${refusedBy}`, {
    meaning: 'who is in many groups has a large token, and would be turned away.',
    advice:
      'tell those who run the web server. For nginx: large_client_header_buffers 4 16k; for Apache: LimitRequestFieldSize 16380',
  });
}

/** Who refused it, and how; undefined when it has arrived. */
async function refusalOf(
  size: number,
  { settings, egress }: DoctorContext,
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
