import type { Target } from '../../../protocol/target.ts';
import { writeStderr } from '../../errors/report.ts';
import type { ProxyCredentials, ProxySignIn } from './credentials.ts';
import { keychainReader, readKeychain } from './keychain.ts';
import { promptForCredentials } from './prompt.ts';
import type { ProxyMemory } from './proxy-state.ts';
import type { Wanted } from './negotiation.ts';

/** Sources of credentials, in order of precedence. */
export interface ProxyCredentialSources {
  /** From the proxy's URL or the environment. */
  readonly given?: ProxyCredentials;
  /** The user name, where only that is known. */
  readonly user?: string;
  readonly signIn: ProxySignIn;
}

/** Finds user name and password for a proxy: given, from the keychain, or by a prompt; keychain and prompt are used once in a process. */
export async function findCredentials(
  proxy: { readonly name: string; readonly proxy: Target; readonly tls: boolean },
  { given, user, signIn: { isPromptAllowed } }: ProxyCredentialSources,
  options: { readonly memory: ProxyMemory; readonly wanted: Wanted; readonly signal: AbortSignal },
): Promise<ProxyCredentials | undefined> {
  if (given !== undefined) return given;
  const { memory, wanted, signal } = options;
  const named = user === undefined ? {} : { user };
  memory.kept ??= readKeychain({ ...proxy, ...named, isPromptAllowed }, signal);
  const kept = await memory.kept;
  if (kept !== undefined) return kept;
  if (wanted.mayPrompt && isPromptAllowed) {
    memory.typed ??= promptForCredentials(
      { proxy: proxy.name, ...named, wantsDomain: wanted.domain },
      signal,
    );
  }
  const typed = await memory.typed;
  if (typed === undefined) {
    // After a timeout the next connection prompts again; after a cancelled prompt it does not.
    if (signal.aborted) memory.typed = undefined;
    return undefined;
  }
  memory.storingCommand ??= keychainReader({ ...proxy, user: typed.user, isPromptAllowed })?.storing;
  return typed;
}

/** Drops refused credentials. Resolves to whether others can be found now: a password in a keychain can be outdated. */
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

/** Prints, once and after a typed password was accepted, how to store it. */
export function printStoringHint(memory: ProxyMemory): void {
  if (memory.storingCommand === undefined || memory.hasPrintedHint) return;
  memory.hasPrintedHint = true;
  writeStderr(`postern: to avoid this prompt, store the password: ${memory.storingCommand}\n`);
}
