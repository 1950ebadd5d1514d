import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { ReadStream } from 'node:tty';
import { onAbort } from '../../../base/deadline.ts';
import { Secret } from '../../../protocol/secret.ts';
import { printable } from '../../os/terminal.ts';
import type { ProxyCredentials } from './credentials.ts';
import { LineEditor } from './line-editor.ts';

/**
 * Prompts for user name and password on the terminal, whatever stdin and stderr are; the password is not echoed.
 * Undefined when there is no terminal, when the user cancels, or when `signal` aborts.
 */
export async function promptForCredentials(
  question: { readonly proxy: string; readonly user?: string; readonly wantsDomain: boolean },
  signal: AbortSignal,
): Promise<ProxyCredentials | undefined> {
  let terminal;
  try {
    terminal = openTerminal();
  } catch {
    return undefined;
  }
  try {
    const name = printable(question.proxy);
    const hint = question.wantsDomain ? ` (like DOMAIN\\user)` : '';
    terminal.write(`postern: the proxy ${name} requires a sign-in\r\n`);
    const user = question.user ?? (await terminal.prompt(`postern: user name${hint}: `, 'shown', signal));
    if (user === undefined || user === '') return undefined;
    const password = await terminal.prompt(`postern: password of ${printable(user)}: `, 'hidden', signal);
    if (password === undefined || password === '') return undefined;
    return { user, password: new Secret(password), source: 'the prompt' };
  } finally {
    terminal.close();
  }
}

interface Terminal {
  write(text: string): void;
  prompt(prompt: string, how: 'shown' | 'hidden', signal: AbortSignal): Promise<string | undefined>;
  close(): void;
}

function openTerminal(): Terminal {
  const isWindows = process.platform === 'win32';
  const output = openSync(
    isWindows ? '\\\\.\\CONOUT$' : '/dev/tty',
    constants.O_RDWR | (constants.O_NOCTTY ?? 0),
  );
  let input: ReadStream;
  try {
    input = new ReadStream(openSync(isWindows ? '\\\\.\\CONIN$' : '/dev/tty', constants.O_RDWR));
  } catch (error) {
    closeSync(output);
    throw error;
  }
  const write = (text: string): void => void writeSync(output, text);
  return {
    write,
    prompt: (prompt, how, signal) => promptLine(input, write, { prompt, how, signal }),
    close() {
      input.destroy();
      closeSync(output);
    },
  };
}

/** Prompts in raw mode: the terminal echoes nothing, and on Ctrl-C its mode can still be restored. */
function promptLine(
  input: ReadStream,
  write: (text: string) => void,
  options: {
    readonly prompt: string;
    readonly how: 'shown' | 'hidden';
    readonly signal: AbortSignal;
  },
): Promise<string | undefined> {
  const { prompt, how, signal } = options;
  const editor = new LineEditor(how === 'shown' ? write : () => {});
  return new Promise((resolve) => {
    const finish = (line: string | undefined): void => {
      removeListener();
      input.off('data', read).off('error', cancel).off('end', cancel);
      input.setRawMode(false);
      input.pause();
      write('\r\n');
      resolve(line);
    };
    const cancel = (): void => finish(undefined);
    const read = (chunk: Buffer): void => {
      const line = editor.push(chunk);
      if (line !== undefined) finish(line === 'broken off' ? undefined : line.text);
    };
    if (signal.aborted) return resolve(undefined);
    const removeListener = onAbort(signal, cancel);
    input.setRawMode(true);
    input.on('data', read).once('error', cancel).once('end', cancel);
    input.resume();
    write(prompt);
  });
}
