import type { Target } from '../../../protocol/target.ts';
import { writeStderr } from '../../errors/report.ts';
import type { ProxyCredentials, ProxySignIn } from './credentials.ts';
import { keychainReader, readKeychain } from './keychain.ts';
import { promptForCredentials } from './prompt.ts';
import type { ProxyMemory } from './proxy-state.ts';
import type { Wanted } from './negotiation.ts';

/** Who signs in, in the order in which it counts. */
export interface ProxyCredentialSources {
  /** Of the proxy's URL or the environment. */
  readonly given?: ProxyCredentials;
  /** Of whom only the name is known. */
  readonly user?: string;
  readonly signIn: ProxySignIn;
}

/** Name and password for a proxy: given, or out of the keychain, or typed; each is asked for once in this process. */
export async function findCredentials(
  proxy: { readonly name: string; readonly proxy: Target; readonly tls: boolean },
  { given, user, signIn: { isPromptAllowed: mayAsk } }: ProxyCredentialSources,
  options: { readonly memory: ProxyMemory; readonly wanted: Wanted; readonly signal: AbortSignal },
): Promise<ProxyCredentials | undefined> {
  if (given !== undefined) return given;
  const { memory, wanted, signal } = options;
  const named = user === undefined ? {} : { user };
  memory.kept ??= readKeychain({ ...proxy, ...named, mayAsk }, signal);
  const kept = await memory.kept;
  if (kept !== undefined) return kept;
  if (wanted.mayPrompt && mayAsk) {
    memory.typed ??= promptForCredentials(
      { proxy: proxy.name, ...named, wantsDomain: wanted.domain },
      signal,
    );
  }
  const typed = await memory.typed;
  if (typed === undefined) {
    // Who had no time may have it at the next connection; who has broken off is not asked again.
    if (signal.aborted) memory.typed = undefined;
    return undefined;
  }
  memory.tip ??= keychainReader({ ...proxy, user: typed.user, mayAsk })?.storing;
  return typed;
}

/** Forgets what was refused. Whether others may be had now: a password in a keychain may be an old one. */
export async function dropCredentials(
  refused: ProxyCredentials,
  { signIn }: ProxyCredentialSources,
  memory: ProxyMemory,
): Promise<boolean> {
  if (refused !== (await memory.kept) || !signIn.isPromptAllowed) return false;
  memory.kept = Promise.resolve(undefined);
  writeStderr(`postern: the proxy did not accept the password from ${refused.source}\n`);
  return true;
}

/** Says, once and after a password that was typed has turned out to be right, how to be asked no more. */
export function formatHint(memory: ProxyMemory): void {
  if (memory.tip === undefined || memory.hasTipped) return;
  memory.hasTipped = true;
  writeStderr(`postern: to be asked no more, keep the password: ${memory.tip}\n`);
}
