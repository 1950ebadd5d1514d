import { finding } from './check.ts';
import type { GatewayCheck } from './check.ts';
import { frontIn, linesFor } from './fronts.ts';
import { codeIn, probe } from './probe.ts';
import type { ProbeResponse } from './probe.ts';

/** Whether requests below the prefix arrive at this gateway with their path unchanged. */
export const prefix: GatewayCheck = {
  name: 'prefix',
  title: 'prefix',
  needs: ['isSecure'],
  limitMs: 8000,
  async run({ isRunning }, context, signal) {
    const { config, url } = context;
    const answer = await probe(context, { path: '.well-known/postern' }, signal);
    const front = frontIn([answer.headers.server].flat()[0]);
    const publicUrl = publicUrlIn(answer);
    if (publicUrl === config.publicUrl.href) {
      const what = `${front ?? 'the web server'} forwards ${url.pathname} to the gateway`;
      return { ...finding(prefix, 'ok', { what }), found: { isForwarded: true, front } };
    }
    const lines = linesFor('prefix', front, config);
    const whole = 'for the whole file, run: postern-gateway print-config nginx|haproxy|caddy|apache';
    if (publicUrl !== undefined) {
      return finding(prefix, 'error', {
        what: `another gateway answers there, with the publicUrl ${publicUrl.slice(0, 200)}`,
        meaning:
          'the web server forwards to another gateway, or this is not the configuration of the gateway behind it.',
        advice: `correct the address that it forwards to; ${whole}`,
        lines,
      });
    }
    if (answer.status >= 500) {
      return finding(prefix, 'error', {
        what: `the web server answers ${answer.status}`,
        meaning: isRunning
          ? 'the gateway runs, but the web server does not reach it: it forwards to another address, or is not allowed to connect (SELinux: setsebool -P httpd_can_network_connect 1).'
          : 'the gateway is not running, so the web server cannot reach it.',
        advice: `make it forward to the address where the gateway listens; ${whole}`,
        lines,
      });
    }
    const isOurs = codeIn(answer) !== undefined || isFastify(answer);
    return finding(prefix, 'error', {
      what: `the web server answers ${answer.status} at ${url.pathname}${isOurs ? ', and the response comes from the gateway' : ''}`,
      meaning: isOurs
        ? 'the web server changes the path. It has to arrive unchanged.'
        : 'the web server does not forward this path.',
      advice: `add this; ${whole}`,
      lines,
    });
  },
};

/** The gateway's response outside its prefix. */
function isFastify({ status, body }: ProbeResponse): boolean {
  return status === 404 && body.startsWith('{"message":"Route GET:');
}

function publicUrlIn({ status, body }: ProbeResponse): string | undefined {
  try {
    const { publicUrl } = JSON.parse(body) as { publicUrl?: unknown };
    return status === 200 && typeof publicUrl === 'string' ? publicUrl : undefined;
  } catch {
    return undefined;
  }
}
