import { finding } from './check.ts';
import type { GatewayCheck } from './check.ts';
import { linesFor } from './fronts.ts';
import { probe } from './probe.ts';

/** The largest token, with the name of its field and its scheme, in bytes. */
const maxFieldBytes = 8 * 1024 + 64;

/** Whether a large token would arrive. */
export const headers: GatewayCheck = {
  name: 'headers',
  title: 'large headers',
  needs: ['isForwarded'],
  limitMs: 8000,
  async run({ front }, context, signal) {
    const field = { 'X-Postern-Doctor': 'x'.repeat(maxFieldBytes) };
    const { status } = await probe(context, { path: '.well-known/postern', headers: field }, signal);
    if (status === 200) return finding(headers, 'ok', { what: 'tokens of up to 8 KiB arrive' });
    return finding(headers, 'warning', {
      what: `the web server answers ${status} to a header of 8 KiB`,
      meaning: 'users in many groups have large tokens, and are rejected.',
      advice: 'add this:',
      lines: linesFor('headers', front, context.config),
    });
  },
};
