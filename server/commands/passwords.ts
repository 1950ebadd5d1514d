import { StringDecoder } from 'node:string_decoder';
import { passwordLengths } from '../login/accounts/password.ts';
import { UsageError } from './command.ts';
import type { CommandIo } from './command.ts';

/** Reads a new password: the first line of stdin with `fromStdin`, else twice from the terminal, without echo. */
export async function readNewPassword(io: CommandIo, fromStdin: boolean): Promise<string> {
  if (fromStdin) return checkLength(await readLine(io.stdin));
  if (!io.stdin.isTTY) throw new UsageError('there is no terminal to type it at; use --password-stdin');
  const password = checkLength(await prompt(io, 'Password: '));
  if ((await prompt(io, 'Again: ')) !== password) throw new UsageError('the two passwords differ');
  return password;
}

function checkLength(password: string): string {
  const { min, max } = passwordLengths;
  if (Array.from(password).length < min || password.length > max)
    throw new UsageError(`a password needs ${min} to ${max} characters`);
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

/** Prompts on stderr, since stdout is for results. In raw mode nothing is echoed, and the keys are handled here. */
function prompt({ stdin, stderr }: CommandIo, question: string): Promise<string> {
  // Before the prompt: a password typed as soon as it appears must not be echoed.
  stdin.setRawMode?.(true);
  stderr.write(question);
  const decoder = new StringDecoder('utf8');
  let typed = '';
  return new Promise((resolve, reject) => {
    const finish = (then: () => void): void => {
      stdin.off('data', onData);
      stdin.off('end', onEnd);
      stdin.setRawMode?.(false);
      stdin.pause();
      stderr.write('\n');
      then();
    };
    const onEnd = (): void => finish(() => reject(new UsageError('no password was typed')));
    const onData = (chunk: Buffer): void => {
      for (const key of decoder.write(chunk)) {
        if (key === '\r' || key === '\n') return finish(() => resolve(typed));
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
