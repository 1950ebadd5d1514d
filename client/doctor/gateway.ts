import type { Explanation } from '../../diagnostics/finding.ts';
import { ClientError } from '../errors/failure.ts';
import { check, warning, failed, ok } from './check.ts';
import type { DiscoveryFacts, ClientOutcome, FetchedPage } from './check.ts';

const id = { check: 'gateway', title: 'gateway' };

/** Whether a Postern gateway answers, recognized by its discovery document. */
export const gateway = check({
  name: 'gateway',
  title: 'gateway',
  needs: ['page'],
  limitMs: 1000,
  run({ page }, { settings }): ClientOutcome {
    const document = readDocument(page);
    if (document === undefined) {
      const what = `${page.server} answered ${page.status} with ${kindOf(page)}, not with a gateway's discovery document`;
      return { findings: [failed(id, new ClientError('HTTP_UNEXPECTED', what), wordsFor(page))] };
    }
    const { version, entries, publicUrl } = document;
    const found = { gateway: { version, entries } };
    const what = `postern-gateway ${version}; entries: ${entries.join(', ')}`;
    if (publicUrl !== settings.gateway.href) {
      const words = {
        meaning: 'browser sign-in works only at the URL that the gateway is configured with.',
        advice: 'use that URL, if you can reach it:',
        lines: [`postern setup --gateway ${publicUrl}`],
      };
      return { findings: [warning(id, `${what}; it calls itself ${publicUrl}`, words)], found };
    }
    return { findings: [ok(id, what)], found };
  },
});

interface Document extends DiscoveryFacts {
  readonly publicUrl: string;
}

function readDocument({ status, body }: FetchedPage): Document | undefined {
  try {
    const value = JSON.parse(body) as Readonly<Record<string, unknown>>;
    const { version, entries, publicUrl } = value;
    if (status !== 200 || typeof version !== 'string' || !/^[\w.+-]{1,40}$/.test(version)) return undefined;
    if (!Array.isArray(entries) || typeof publicUrl !== 'string' || !/^[!-~]{1,300}$/.test(publicUrl))
      return undefined;
    const names = entries.filter(
      (each): each is string => typeof each === 'string' && /^[\w-]{1,40}$/.test(each),
    );
    return { version, entries: names, publicUrl };
  } catch {
    return undefined;
  }
}

function kindOf({ type, location }: FetchedPage): string {
  if (location !== undefined) return `a redirect to ${hostOf(location)}`;
  if (/html/i.test(type)) return 'a web page';
  return type === '' ? 'nothing' : type;
}

/** The host only: the rest of the URL can hold something private. */
function hostOf(location: string): string {
  return URL.canParse(location) ? new URL(location).host : 'another path';
}

function wordsFor({ type, location }: FetchedPage): Explanation {
  if (location !== undefined || /html/i.test(type)) {
    return {
      meaning:
        'something else answers instead of the gateway: the sign-in page of a hotel, a guest network or a company (a captive portal), or a web server with another page at this path.',
      advice:
        'open any page in a browser, sign in where you are asked to, and try again. If that changes nothing, check the gateway URL.',
    };
  }
  return {
    meaning: 'the web server serves something else at this path.',
    advice: 'check the gateway URL; if it is right, tell the operators of the gateway.',
  };
}
