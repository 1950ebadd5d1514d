import type { Explanation } from '../../diagnostics/finding.ts';
import { requestAccess } from '../connect/gateway-api.ts';
import { toFailure } from '../errors/failure.ts';
import type { ClientSettings } from '../settings.ts';
import { check, failed, ok } from './check.ts';
import type { ClientOutcome } from './check.ts';

const id = { check: 'sign-in', title: 'sign-in' };

/** Whether the gateway accepts the user's credential. */
export const signIn = check({
  name: 'sign-in',
  title: 'sign-in',
  needs: ['gateway'],
  limitMs: 15_000,
  async run(_found, { settings }, signal): Promise<ClientOutcome> {
    try {
      const access = await requestAccess(settings, signal);
      const until = access.until === undefined ? '' : `, until ${access.until}`;
      const seen = access.client === undefined ? '' : `; the gateway sees you connect from ${access.client}`;
      const what = `the gateway knows you as ${access.subject ?? 'a user without a name'}${until}${seen}`;
      const shared = `the gateway accepts the sign-in${until}`;
      return { findings: [ok(id, what, { shared })], found: { access } };
    } catch (error) {
      const failure = toFailure(error);
      return { findings: [failed(id, failure, wordsFor(failure.code, settings))] };
    }
  },
});

function wordsFor(code: string, { token }: ClientSettings): Explanation {
  if (code === 'TOKEN_MISSING') {
    return {
      meaning: 'the path to the gateway works, but you are not signed in.',
      advice: 'sign in:',
      lines: ['postern login'],
    };
  }
  if (code !== 'TOKEN_INVALID') return {};
  const given = token.file ?? (token.text === undefined ? undefined : 'POSTERN_TOKEN');
  return {
    meaning: 'your token or sign-in has expired, was revoked, or is meant for another gateway.',
    ...(given === undefined
      ? { advice: 'sign in again:', lines: ['postern login'] }
      : {
          advice: `replace the token in ${given}; or remove the setting, and sign in with the browser: postern login`,
        }),
  };
}
