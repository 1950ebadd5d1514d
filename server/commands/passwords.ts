import { StringDecoder } from 'node:string_decoder';
import { passwordLengths } from '../login/accounts/password.ts';
import { UsageError } from './command.ts';
import type { CommandIo } from './command.ts';

/** Reads a new password: the first line of stdin where that was asked for, else twice from the terminal, unseen. */
export async function readNewPassword(io: CommandIo, fromStdin: boolean): Promise<string> {
  if (fromStdin) return checkLength(await readLine(io.stdin));
  if (!io.stdin.isTTY) throw new UsageError('there is no terminal to ask at: use --password-stdin');
  const password = checkLength(await ask(io, 'Password: '));
  if ((await ask(io, 'Again: ')) !== password) throw new UsageError('these were two different passwords');
  return password;
}

function checkLength(password: string): string {
  const { min: least, max: most } = passwordLengths;
  if (Array.from(password).length < least || password.length > most)
    throw new UsageError(`a password has ${least} to ${most} characters`);
  return password;
}

async function readLine(stdin: CommandIo['stdin']): Promise<string> {
  let text = '';
  const decoder = new StringDecoder('utf8');
  for await (const chunk of stdin) {
    text += decoder.write(chunk as Buffer);
    if (text.includes('\n') || text.length > 2 * passwordLengths.max) break;
  }
  const [line = ''] = text.split(/\r?\n/);
  return line;
}

/** Asks on stderr, so that stdout stays for what is printed. In raw mode nothing is echoed, and the keys are ours to read. */
function ask({ stdin, stderr }: CommandIo, question: string): Promise<string> {
  // First: whoever types as soon as the question stands there must not see it.
  stdin.setRawMode?.(true);
  stderr.write(question);
  const decoder = new StringDecoder('utf8');
  let typed = '';
  return new Promise((resolve, reject) => {
    const settle = (then: () => void): void => {
      stdin.off('data', onData);
      stdin.off('end', onEnd);
      stdin.setRawMode?.(false);
      stdin.pause();
      stderr.write('\n');
      then();
    };
    const onEnd = (): void => settle(() => reject(new UsageError('nothing was typed')));
    const onData = (chunk: Buffer): void => {
      for (const key of decoder.write(chunk)) {
        if (key === '\r' || key === '\n') return settle(() => resolve(typed));
        // Ctrl-C and Ctrl-D are keys like any other in raw mode.
        if (key === '\u0003' || key === '\u0004') return onEnd();
        if (key === '\u007f' || key === '\b') typed = Array.from(typed).slice(0, -1).join('');
        else typed += key;
      }
    };
    stdin.on('data', onData);
    stdin.once('end', onEnd);
    stdin.resume();
  });
}
