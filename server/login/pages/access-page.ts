import { portBlocks, readSshHost, uniqueSshHosts } from '../../../protocol/ssh-hosts.ts';
import { command, html, renderPage } from '../../web/page.ts';
import type { Html } from '../../web/page.ts';

/** The contents of the page. Times are milliseconds since 1970. */
export interface AccessPage {
  readonly publicUrl: URL;
  readonly token: string;
  readonly now: number;
  readonly subject: string;
  readonly groups: readonly string[];
  readonly until: number;
  /** Target patterns, each with its port. */
  readonly hosts: readonly string[];
  readonly sessions: readonly {
    readonly id: string;
    readonly target: string;
    readonly client: string;
    readonly since: number;
    /** Since when it waits for its client, without a connection. */
    readonly detachedSince?: number;
  }[];
  readonly signIns: readonly {
    readonly id: string;
    readonly kind: 'browser' | 'program' | 'device';
    readonly agent?: string;
    readonly remoteAddress: string;
    readonly startedAt: number;
    readonly expiresAt: number;
  }[];
  readonly signInId: string;
  /** A ticket that was just created; it is shown only now. */
  readonly ticket?: { readonly text: string; readonly target: string; readonly minutes: number };
  readonly notice?: Notice;
}

export type Notice = 'session-ended' | 'sign-in-ended' | 'target-invalid';

const notices: Readonly<Record<Notice, { readonly words: string; readonly bad: boolean }>> = {
  'session-ended': { words: 'The session has ended.', bad: false },
  'sign-in-ended': { words: 'The sign-in has ended, and with it every session that it opened.', bad: false },
  'target-invalid': {
    words:
      'No ticket was created: that is not a host you can reach. Enter a host name, with :port if it is not 22.',
    bad: true,
  },
};

/** Whether a text, which can come from a URL, names a notice. */
export function isNotice(text: string | undefined): text is Notice {
  return text !== undefined && Object.hasOwn(notices, text);
}

/** The hosts that a person can reach, how to connect to them, and where the person is signed in. */
export function accessPage(page: AccessPage): string {
  const { publicUrl, subject, groups, until, now, notice, hosts, ticket } = page;
  return renderPage({
    title: `Your access – ${publicUrl.hostname}`,
    body: html`<div class="head">
        <h1>Your access</h1>
        ${button(page, 'sign-out', 'Sign out', 'second small')}
      </div>
      <p class="lead">
        Signed in as <strong>${subject}</strong>${
          groups.length > 0 && html` (${groups.length === 1 ? 'group' : 'groups'}: ${groups.join(', ')})`
        }.
        This sign-in ends ${when(until, now)}.
      </p>
      ${notice && html`<p class="${notices[notice].bad ? 'problem' : 'notice'}" role="status">${notices[notice].words}</p>`}
      ${ticket && ticketBox(ticket)}

      <h2>Hosts you can reach</h2>
      ${
        hosts.length === 0
          ? html`<p>None. The administrator of this gateway decides which hosts you can reach.</p>`
          : html`<ul class="names">
              ${hosts.map((host) => html`<li><code>${withoutUsualPort(host)}</code></li>`)}
            </ul>`
      }
      ${hosts.length > 0 && howTo(page)}

      <h2>Open sessions</h2>
      ${
        page.sessions.length === 0
          ? html`<p class="soft">None at the moment.</p>`
          : html`<ul class="rows">
              ${page.sessions.map((session) => sessionRow(page, session))}
            </ul>`
      }

      <h2>Where you are signed in</h2>
      <ul class="rows">
        ${inOrder(page).map((signIn) => signInRow(page, signIn))}
      </ul>

      ${hosts.length > 0 && ticketForm(page)}`,
  });
}

function howTo({ publicUrl, hosts }: AccessPage): Html {
  const sshHosts = uniqueSshHosts(hosts.flatMap((host) => readSshHost(host) ?? []));
  // `postern setup` takes no IPv6 addresses.
  const options = sshHosts
    .filter(({ host }) => !host.includes(':'))
    .map(({ host, port }) => `--host ${quoted(port === 22 ? host : `${host}:${port}`)}`);
  const setup = `postern setup --gateway ${publicUrl.href} ${options.join(' ')}`;
  const names = sshHosts.map(({ host }) => host);
  const block = `${portBlocks(sshHosts)}Host ${names.join(' ')}\n  ProxyCommand postern connect --gateway ${publicUrl.href} -- '%h' '%p'`;
  const example = names.find((name) => !name.includes('*')) ?? 'HOST';
  return html`<h2>How to connect</h2>
    <p>Install the <code>postern</code> client, then run once:</p>
    ${command(setup)}
    <p>
      Then run <code>ssh ${example}</code>; it asks you to sign in when necessary. To configure it by hand
      instead, add this to <code>~/.ssh/config</code>:
    </p>
    ${command(block)}`;
}

function sessionRow(
  page: AccessPage,
  { id, target, client, since, detachedSince }: AccessPage['sessions'][number],
): Html {
  return html`<li>
    <span
      ><strong>${withoutUsualPort(target)}</strong>
      <span class="soft"
        >from ${client}, opened
        ${moment(since, page.now)}${detachedSince !== undefined && html`; not connected: waits for its client since ${moment(detachedSince, page.now)}`}</span
      ></span
    >${button(page, 'access/end-session', 'End', 'second small', {
      id,
      label: `End the session to ${target}`,
    })}
  </li>`;
}

/** This browser first, then the others in their order. */
function inOrder({ signIns, signInId }: AccessPage): AccessPage['signIns'] {
  return signIns.toSorted((one, other) => Number(other.id === signInId) - Number(one.id === signInId));
}

const kinds = { browser: '', program: 'postern, signed in with ', device: '' } as const;

function signInRow(page: AccessPage, signIn: AccessPage['signIns'][number]): Html {
  const { id, kind, agent = 'unknown', remoteAddress, startedAt, expiresAt } = signIn;
  const name = `${kinds[kind]}${agent === '' ? 'unknown' : agent}`;
  const isThis = id === page.signInId;
  return html`<li>
    <span
      ><strong>${name}</strong>${isThis && ' (this browser)'}
      <span class="soft"
        >from ${remoteAddress}, signed in ${moment(startedAt, page.now)}, ends
        ${when(expiresAt, page.now)}</span
      ></span
    >${
      isThis
        ? undefined
        : button(page, 'access/end-sign-in', 'End', 'second small', {
            id,
            label: `End the sign-in of ${name}`,
          })
    }
  </li>`;
}

function ticketForm({ publicUrl, token, hosts }: AccessPage): Html {
  const example = hosts.map(hostOf).find((name) => !name.includes('*')) ?? 'box';
  return html`<h2>Tickets for programs that only support passwords</h2>
    <p class="soft">
      A ticket opens one session within five minutes. Use it as the proxy password, with any user name.
    </p>
    <form method="post" action="${publicUrl.pathname}access/ticket">
      <input type="hidden" name="token" value="${token}" />
      <div class="line">
        <div>
          <label for="target">Host <small>for example ${example}</small></label>
          <input
            id="target"
            name="target"
            required
            maxlength="300"
            autocomplete="off"
            autocapitalize="none"
            spellcheck="false"
          />
        </div>
        <button class="second">Create a ticket</button>
      </div>
    </form>`;
}

function ticketBox({ text, target, minutes }: NonNullable<AccessPage['ticket']>): Html {
  return html`<div class="notice" role="status">
    <p>
      Your ticket for <strong>${target}</strong> is valid for one session within ${minutes} minutes. Copy it
      now; it will not be shown again:
    </p>
    ${command(text)}
  </div>`;
}

function button(
  { publicUrl, token }: AccessPage,
  path: string,
  text: string,
  look: string,
  about?: { readonly id: string; readonly label: string },
): Html {
  return html`<form method="post" action="${publicUrl.pathname}${path}">
    <input type="hidden" name="token" value="${token}" />${
      about && html`<input type="hidden" name="id" value="${about.id}" />`
    }<button class="${look}" ${about && html` aria-label="${about.label}"`}>${text}</button>
  </form>`;
}

function withoutUsualPort(target: string): string {
  return target.replace(/:22$/, '');
}

function hostOf(pattern: string): string {
  return pattern.replace(/:(?:\d+|\*)$/, '').replace(/^\[(.*)\]$/, '$1');
}

/** For a shell: patterns contain asterisks, and nothing else that is special to a shell. */
function quoted(name: string): string {
  return /^[\w.:-]+$/.test(name) ? name : `'${name}'`;
}

/** `in 11 h 40 min (18:30 UTC)`: a page without scripts does not know the person's time zone. */
function when(at: number, now: number): Html {
  return html`in ${duration(at - now)} (${clock(at)})`;
}

/** `5 min ago`, `just now`. */
function moment(at: number, now: number): Html {
  const words = now - at < 60_000 ? 'just now' : `${duration(now - at)} ago`;
  return html`<time datetime="${new Date(at).toISOString()}">${words}</time>`;
}

function clock(at: number): Html {
  const iso = new Date(at).toISOString();
  return html`<time datetime="${iso}">${iso.slice(11, 16)} UTC</time>`;
}

function duration(ms: number): string {
  const minutes = Math.max(0, Math.round(ms / 60_000));
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`;
}
