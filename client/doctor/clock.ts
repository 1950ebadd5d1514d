import { check, warning, ok, skip } from './check.ts';

const id = { check: 'clock', title: 'clock' };

/** The difference that a gateway tolerates. */
const toleratedMs = 30_000;

/** Whether the local clock agrees with the web server's. */
export const clock = check({
  name: 'clock',
  title: 'clock',
  needs: ['page', 'gateway'],
  limitMs: 1000,
  run({ page }) {
    const { date, requestedAt } = page;
    if (date === undefined) return { findings: [skip(id, 'the web server does not send its time')] };
    const offMs = requestedAt - date;
    // The Date field has whole seconds.
    if (Math.abs(offMs) < toleratedMs)
      return { findings: [ok(id, "this machine's clock agrees with the gateway's")] };
    const what = `this machine's clock is ${duration(Math.abs(offMs))} ${offMs > 0 ? 'ahead of' : 'behind'} the gateway's`;
    return {
      findings: [
        warning(id, what, {
          meaning:
            'certificates and tokens are valid for a limited time. A browser sign-in tolerates the difference; a token in a file can seem to have expired, or not to be valid yet.',
          advice: 'let the system synchronize the clock. On Linux: timedatectl set-ntp true',
        }),
      ],
    };
  },
});

function duration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 120) return `${seconds} seconds`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} minutes` : `${Math.round(seconds / 3600)} hours`;
}
