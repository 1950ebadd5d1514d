import { closeSync, constants, fstatSync, openSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { isatty } from 'node:tty';
import type { Layer, TunnelError } from '../../protocol/errors.ts';
import { maskSecrets } from '../../protocol/secret-forms.ts';
import { ClientError } from './failure.ts';
import { readSmall, writePrivate } from '../os/files.ts';
import { printable } from '../os/terminal.ts';

/** The name of each layer in messages; the client's own arguments and files need none. */
const layerNames: Record<Layer, string> = {
  usage: '',
  configuration: 'configuration: ',
  proxy: 'corporate proxy: ',
  network: 'network: ',
  tls: 'TLS: ',
  http: 'HTTP: ',
  upgrade: 'upgrade: ',
  'sign-in': 'sign-in: ',
  policy: 'policy: ',
  gateway: 'gateway: ',
  target: 'target: ',
  tunnel: 'tunnel: ',
};

/** One failure as it is stored for `postern status`. */
export interface LastError {
  readonly time: string;
  readonly code: string;
  readonly layer: string;
  readonly message: string;
  readonly requestId?: string;
  readonly hint?: string;
  readonly target?: string;
}

/** Formats an error in at most two lines: what happened and in which layer, and one command that can help. */
export function formatError(error: TunnelError): string {
  const hint = hintOf(error);
  const request = requestIdOf(error);
  const what = sanitize(error.message) + (request === undefined ? '' : `, request ${sanitize(request)}`);
  const first = `postern: ${layerNames[error.facts.layer]}${what} (${error.code})\n`;
  return hint ? `${first}postern: hint: ${sanitize(hint)}\n` : first;
}

/**
 * Reports a failure: on stderr, on the terminal when stderr is /dev/null, and in `last-error` under the state directory.
 * Never throws; where nothing can be written, nothing is reported.
 */
export function reportError(error: TunnelError, state: string, target?: string): void {
  const text = formatError(error);
  writeStderr(text);
  const request = requestIdOf(error);
  const hint = hintOf(error);
  const entry: LastError = {
    time: new Date().toISOString(),
    code: error.code,
    layer: error.facts.layer,
    message: sanitize(error.message),
    ...(request === undefined ? {} : { requestId: sanitize(request) }),
    ...(hint ? { hint: sanitize(hint) } : {}),
    ...(target === undefined ? {} : { target: sanitize(target) }),
  };
  try {
    writePrivate(lastErrorFile(state), `${JSON.stringify(entry)}\n`);
  } catch {
    // The home directory is not writable; the lines above are on stderr all the same.
  }
}

/** The failure that `reportError` stored last, or undefined when there is none that can be read. */
export function readLastError(state: string): LastError | undefined {
  try {
    const entry = JSON.parse(readSmall(lastErrorFile(state), 16 * 1024).bytes.toString()) as LastError;
    const complete = [entry.time, entry.code, entry.layer, entry.message].every((x) => typeof x === 'string');
    return complete ? entry : undefined;
  } catch {
    return undefined;
  }
}

/** Writes to stderr, or to the terminal when stderr is /dev/null: with ControlPersist, ssh sends ours there. */
export function writeStderr(text: string): void {
  if (isatty(2)) return writeAll(2, forTerminal(text));
  writeAll(2, text);
  if (!isDevNull(2)) return;
  let tty: number;
  try {
    // Without waiting for a stopped terminal, and without making it the controlling terminal.
    tty = openSync('/dev/tty', constants.O_WRONLY | (constants.O_NOCTTY ?? 0) | (constants.O_NONBLOCK ?? 0));
  } catch {
    return;
  }
  writeAll(tty, forTerminal(text));
  closeSync(tty);
}

/** `writeStderr` during a session, which can have left the cursor anywhere in its line: starts a new line on a terminal. */
export function writeInSession(text: string): void {
  writeStderr(isatty(2) || isDevNull(2) ? `\n${text}` : text);
}

/** Line ends for a terminal that ssh has put into raw mode. */
function forTerminal(text: string): string {
  return text.replaceAll('\n', '\r\n');
}

/** Makes text from a peer safe for a terminal. Secrets are masked: a peer can echo what the client sent. */
export function sanitize(text: string): string {
  return printable(maskSecrets(text));
}

function lastErrorFile(state: string): string {
  return join(state, 'last-error');
}

function hintOf(error: TunnelError): string | undefined {
  return (error instanceof ClientError ? error.hint : undefined) ?? error.facts.hint;
}

function requestIdOf(error: TunnelError): string | undefined {
  return error instanceof ClientError ? error.requestId : undefined;
}

/** Whether a descriptor is /dev/null, or cannot be examined. Node.js opens /dev/null in place of a closed descriptor. */
function isDevNull(descriptor: number): boolean {
  try {
    const stats = fstatSync(descriptor);
    return stats.isCharacterDevice() && stats.rdev === statSync('/dev/null').rdev;
  } catch {
    return true;
  }
}

function writeAll(descriptor: number, text: string): void {
  try {
    for (let rest = Buffer.from(text); rest.length > 0;) rest = rest.subarray(writeSync(descriptor, rest));
  } catch {
    // A reader that is gone or does not read (EPIPE, EAGAIN) must not delay the client.
  }
}
