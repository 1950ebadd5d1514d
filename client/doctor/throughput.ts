import { randomBytes } from 'node:crypto';
import { check, warning, ok, skip } from './check.ts';
import type { Finding } from '../../diagnostics/finding.ts';
import type { ClientOutcome, ClientDoctorContext } from './check.ts';
import { measure } from './measure-api.ts';
import { deadlineSignal } from '../../base/deadline.ts';

const id = { check: 'throughput', title: 'throughput' };

const downBytes = 4 * 1024 * 1024;
const upBytes = 1024 * 1024;
const directionMs = 3000;
const mebibyte = 1024 * 1024;
/** Below this, copying a large file is a test of patience. */
const slowMebibytes = 0.1;

/** Throughput in each direction. */
export const throughput = check({
  name: 'throughput',
  title: 'throughput',
  needs: ['access'],
  limitMs: 9000,
  async run(_found, context, signal): Promise<ClientOutcome> {
    const down = await download(context, signal);
    if (down === undefined) return { findings: [skip(id, 'this gateway is too old to measure it')] };
    return { findings: [outcome(down, await upload(context, signal))] };
  },
});

function outcome(down: number, up: number | undefined): Finding {
  const parts = [`from the gateway ${formatRate(down)}`];
  parts.push(up === undefined ? 'to the gateway too slow to measure' : `to the gateway ${formatRate(up)}`);
  const what = parts.join(', ');
  if (down >= slowMebibytes && up !== undefined && up >= slowMebibytes) return ok(id, what);
  return warning(id, what, { meaning: 'copying files will take long. Typing does not need more.' });
}

/** MiB per second, of the bytes that arrived within the time. */
async function download(context: ClientDoctorContext, signal: AbortSignal): Promise<number | undefined> {
  const limit = deadlineSignal(signal, directionMs);
  const answer = await measure(context, { query: { bytes: String(downBytes) } }, limit);
  if (answer === undefined) return undefined;
  const since = performance.now();
  let size = 0;
  try {
    for await (const chunk of answer.response) size += (chunk as Buffer).length;
  } catch (error) {
    // The end of the time is not a failure: the network is slow.
    if (!limit.aborted) throw error;
  }
  return size / mebibyte / ((performance.now() - since) / 1000);
}

/** MiB per second; undefined when it took longer than the time limit. */
async function upload(context: ClientDoctorContext, signal: AbortSignal): Promise<number | undefined> {
  const limit = deadlineSignal(signal, directionMs);
  const body = randomBytes((upBytes * 3) / 4).toString('base64');
  const since = performance.now();
  try {
    const answer = await measure(context, { query: {}, body }, limit);
    answer?.response.destroy();
    return answer && body.length / mebibyte / ((performance.now() - since) / 1000);
  } catch (error) {
    if (limit.aborted) return undefined;
    throw error;
  }
}

function formatRate(mebibytes: number): string {
  return `${mebibytes < 10 ? mebibytes.toFixed(1) : Math.round(mebibytes)} MiB/s`;
}
