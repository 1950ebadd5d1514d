import { resumeCauses } from '../../protocol/resume-cause.ts';
import type { ResumeCause } from '../../protocol/resume-cause.ts';

/** An interruption that people notice is explained after this time. */
const quietMs = 3000;

/** The messages about one run of attempts. */
export interface InterruptionNotice {
  /** Reports the end of the interruption, if its beginning was reported. */
  resumed(): void;
  /** Call in the end, whatever it was. */
  stop(): void;
}

/**
 * Tells the person at the terminal about an interruption that is long enough to be noticed, and about its end. After 3 s
 * `interruptedBy` is asked for the cause; false: nothing is interrupted, the attempts are only planned.
 */
export function noticeInterruption(
  warn: (line: string) => void,
  interruptedBy: () => ResumeCause | false,
): InterruptionNotice {
  const startedAt = Date.now();
  let isReported = false;
  const timer = setTimeout(() => {
    const cause = interruptedBy();
    if (cause === false) return;
    isReported = true;
    warn(`postern: reconnecting… (${resumeCauses[cause]})\n`);
  }, quietMs);
  timer.unref();
  return {
    resumed() {
      if (!isReported) return;
      // The clock that also counts sleep can be set back.
      const seconds = Math.max(0, Math.round((Date.now() - startedAt) / 1000));
      warn(`postern: resumed after ${seconds} s\n`);
    },
    stop: () => clearTimeout(timer),
  };
}
