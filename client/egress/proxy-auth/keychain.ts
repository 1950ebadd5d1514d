import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { Secret } from '../../../protocol/secret.ts';
import type { Target } from '../../../protocol/target.ts';
import { deadlineSignal } from '../../../base/deadline.ts';
import type { ProxyCredentials } from './credentials.ts';

/** A query to a keychain. */
export interface KeychainQuery {
  readonly proxy: Target;
  readonly tls: boolean;
  /** Selects one of several entries. */
  readonly user?: string;
  /** Whether the keychain is allowed to prompt for unlocking. */
  readonly isPromptAllowed: boolean;
}

/** A program that reads the keychain of a system, and the parser of its output. */
export interface KeychainReader {
  /** Its name in messages. */
  readonly name: string;
  /** Contains no secret: other users of this machine can see it. */
  readonly argv: readonly [program: string, ...args: string[]];
  /** Parses user name and password from the combined output. */
  parse(output: string): { readonly user: string; readonly password: string } | undefined;
  /** The command that stores a password there, by a prompt. */
  readonly storing: string;
}

/** The reader for a system; undefined where there is none. */
export function keychainReader(
  query: KeychainQuery,
  platform: NodeJS.Platform = process.platform,
): KeychainReader | undefined {
  if (platform === 'darwin') return macos(query);
  if (platform === 'win32') return windows(query);
  return platform === 'linux' || platform === 'freebsd' ? secretService(query) : undefined;
}

const quiet = (text: string): string => `'${text.replaceAll("'", String.raw`'\''`)}'`;

/** The entries that macOS itself keeps for proxies: `htpx` and `htsx`. */
function macos({ proxy, tls, user }: KeychainQuery): KeychainReader {
  const where = ['-s', proxy.host, '-P', String(proxy.port), '-r', tls ? 'htsx' : 'htpx'];
  const account = user === undefined ? [] : ['-a', user];
  return {
    name: 'the keychain',
    argv: ['/usr/bin/security', 'find-internet-password', ...where, ...account, '-g'],
    parse(output) {
      const account = quotedValue(/^[ \t]*"acct"<blob>=(.*)$/m.exec(output)?.[1]);
      const password = quotedValue(/^password: (.*)$/m.exec(output)?.[1]);
      return account === undefined || password === undefined ? undefined : { user: account, password };
    },
    storing: `security add-internet-password ${where.map(quiet).join(' ')} -a ${quiet(user ?? 'USER')} -w`,
  };
}

/** `"text"`, or `0x74657874  "text"` when it has other characters than those of ASCII. */
function quotedValue(text = ''): string | undefined {
  const hex = /^0x((?:[0-9A-F]{2})*)(?:\s|$)/i.exec(text)?.[1];
  if (hex !== undefined) return Buffer.from(hex, 'hex').toString();
  return /^"(.*)"$/.exec(text.trim())?.[1];
}

/** The Secret Service of GNOME, KDE and others, read by `secret-tool` of libsecret. */
function secretService({ proxy, tls, user, isPromptAllowed }: KeychainQuery): KeychainReader {
  const attributes = ['protocol', tls ? 'https' : 'http', 'server', proxy.host, 'port', String(proxy.port)];
  const account = user === undefined ? [] : ['user', user];
  const unlock = isPromptAllowed ? ['--unlock'] : [];
  return {
    name: 'the keyring',
    argv: ['secret-tool', 'search', ...unlock, ...attributes, ...account],
    parse(output) {
      const found = /^attribute\.user = (.*)$/m.exec(output)?.[1];
      const password = /^secret = (.*)$/m.exec(output)?.[1];
      return found === undefined || password === undefined ? undefined : { user: found, password };
    },
    storing: `secret-tool store --label='proxy' ${attributes.map(quiet).join(' ')} user ${quiet(user ?? 'USER')}`,
  };
}

/**
 * The generic credential `postern:HOST:PORT` of the Credential Manager. `cmdkey` writes but cannot read credentials, so
 * PowerShell does; where it is not allowed to call the system (Constrained Language Mode), nothing is found.
 */
function windows({ proxy }: KeychainQuery): KeychainReader {
  const target = `postern:${proxy.host}:${proxy.port}`;
  const script = `
$ErrorActionPreference = 'Stop'
Add-Type -TypeDefinition @'
using System;
using System.Runtime.InteropServices;
public static class Vault {
  [StructLayout(LayoutKind.Sequential, CharSet = CharSet.Unicode)]
  struct Entry {
    public int Flags, Type; public string Target, Comment; public long Written; public int Size; public IntPtr Blob;
    public int Persist, Count; public IntPtr Attributes; public string Alias, User;
  }
  [DllImport("advapi32", CharSet = CharSet.Unicode, SetLastError = true)]
  static extern bool CredReadW(string target, int type, int flags, out IntPtr entry);
  [DllImport("advapi32")]
  static extern void CredFree(IntPtr entry);
  public static string[] Read(string target) {
    IntPtr at;
    if (!CredReadW(target, 1, 0, out at)) return null;
    try {
      var entry = (Entry)Marshal.PtrToStructure(at, typeof(Entry));
      return new[] { entry.User, Marshal.PtrToStringUni(entry.Blob, entry.Size / 2) };
    } finally { CredFree(at); }
  }
}
'@
$found = [Vault]::Read('${target.replaceAll("'", "''")}')
if ($found) { $found | ForEach-Object { [Convert]::ToBase64String([Text.Encoding]::UTF8.GetBytes($_)) } }
`;
  return {
    name: 'the Credential Manager',
    argv: [
      'powershell.exe',
      '-NoLogo',
      '-NoProfile',
      '-NonInteractive',
      '-EncodedCommand',
      Buffer.from(script, 'utf16le').toString('base64'),
    ],
    parse(output) {
      const [user, password] = output
        .split(/\r?\n/)
        .filter((line) => /^[A-Za-z0-9+/]+=*$/.test(line))
        .map((line) => Buffer.from(line, 'base64').toString());
      return user === undefined || password === undefined ? undefined : { user, password };
    },
    storing: `cmdkey /generic:${target} /user:DOMAIN\\USER /pass`,
  };
}

/** Time for a person to unlock the keychain. */
const unlockMs = 60_000;
const lockedMs = 3000;
const maxOutputBytes = 64 * 1024;

/** Reads the credentials for a proxy from the keychain. Never throws: undefined where there are none. */
export async function readKeychain(
  query: KeychainQuery,
  signal: AbortSignal,
): Promise<ProxyCredentials | undefined> {
  const reader = keychainReader(query);
  if (reader === undefined) return undefined;
  const limit = deadlineSignal(signal, query.isPromptAllowed ? unlockMs : lockedMs);
  const found = reader.parse(await outputsOf(reader.argv, limit));
  if (found === undefined || found.password === '') return undefined;
  return { user: found.user, password: new Secret(found.password), source: reader.name };
}

/** Stdout and stderr of a program; partial output when it fails or is stopped. */
function outputsOf([program, ...args]: KeychainReader['argv'], signal: AbortSignal): Promise<string> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const keep = (chunk: Buffer): void => {
      size += chunk.length;
      if (size <= maxOutputBytes) chunks.push(chunk);
    };
    const child = spawn(systemPath(program), args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      windowsHide: true,
      signal,
    });
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    child.once('error', () => resolve(''));
    child.once('close', () => resolve(Buffer.concat(chunks).toString()));
  });
}

/** The absolute path on Windows, which would search the current directory first. */
function systemPath(program: string): string {
  if (process.platform !== 'win32') return program;
  return join('C:\\Windows\\System32\\WindowsPowerShell\\v1.0', program);
}
