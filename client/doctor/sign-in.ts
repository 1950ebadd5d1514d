import { requestAccess } from '../connect/gateway-api.ts';
import { toFailure } from '../errors/failure.ts';
import type { ClientSettings } from '../settings.ts';
import { check, failed, good } from './check.ts';
import type { Outcome, Explanation } from './check.ts';

const speaker = { check: 'sign-in', title: 'sign-in' };

/** Whether the gateway takes what shows who asks. */
export const signIn = check({
  name: 'sign-in',
  title: 'sign-in',
  needs: ['gateway'],
  limitMs: 15_000,
  async run(_found, { settings }, signal): Promise<Outcome> {
    try {
      const access = await requestAccess(settings, signal);
      const until = access.until === undefined ? '' : `, until ${access.until}`;
      const seen = access.client === undefined ? '' : `; the gateway sees you at ${access.client}`;
      const what = `the gateway knows you as ${access.subject ?? 'somebody'}${until}${seen}`;
      const shared = `the gateway knows the sign-in${until}`;
      return { findings: [good(speaker, what, { shared })], found: { access } };
    } catch (error) {
      const failure = toFailure(error);
      return { findings: [failed(speaker, failure, wordsFor(failure.code, settings))] };
    }
  },
});

function wordsFor(code: string, { token }: ClientSettings): Explanation {
  if (code === 'TOKEN_MISSING') {
    return {
      meaning: 'the path to the gateway is good, but it does not know you yet.',
      advice: 'sign in:',
      lines: ['postern login'],
    };
  }
  if (code !== 'TOKEN_INVALID') return {};
  const given = token.file ?? (token.text === undefined ? undefined : 'POSTERN_TOKEN');
  return {
    meaning: 'what you sign in with has ended, was taken back, or is meant for another gateway.',
    ...(given === undefined
      ? { advice: 'sign in again:', lines: ['postern login'] }
      : {
          advice: `replace the token in ${given}; or take the setting away, and sign in with the browser: postern login`,
        }),
  };
}
