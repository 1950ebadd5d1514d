import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { eventually, output, within } from './process.ts';
import type { Outcome } from './process.ts';
import { box, type Ssh } from './ssh.ts';
import { openTerminal, type Terminal } from './terminal.ts';
import type { World } from './world.ts';

/** The long run: `POSTERN_LONG=1 npm test`. */
export const isLong = Boolean(process.env['POSTERN_LONG']);

export const mebibyte = 1024 * 1024;

/** One line of the audit log. */
export type AuditRecord = Readonly<Record<string, string | number | undefined>>;

/** What the gateway has written down so far about one kind of event. */
export function audited({ gateway }: World, event: string): AuditRecord[] {
  const lines = readFileSync(gateway.auditFile, 'utf8').split('\n').filter(Boolean);
  return lines.map((line) => JSON.parse(line) as AuditRecord).filter((record) => record['event'] === event);
}

/** The sum of a metric over its labels; 0 while there are none. */
export async function metric({ gateway, scratch }: World, name: string): Promise<number> {
  const url = `http://127.0.0.1:${gateway.adminPort}/metrics`;
  const text = (await output(within(scratch.namespace, ['curl', '-sSf', url]))).toString();
  assert.ok(text.includes(`# HELP ${name} `), `no metric ${name}`);
  const values = text
    .split('\n')
    .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
  return values.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
}

/** An interactive session that gives back every line, and is there when this resolves. */
export async function openSession(
  { scratch, clientNamespace }: World,
  ssh: Ssh,
  args: readonly string[] = [],
): Promise<Terminal> {
  const command = ['ssh', '-F', ssh.configFile, '-tt', ...args, box, "'echo ready; exec cat'"].join(' ');
  const terminal = openTerminal(scratch, command, { env: ssh.env, namespace: clientNamespace });
  await terminal.shows('ready');
  await terminal.echo();
  // Shown by the terminal when it is typed; then once more by cat.
  await terminal.shows('.\r\nword');
  return terminal;
}

/** Ends an interactive session as people do, and checks that its exit code tells of no fault. */
export async function closeSession(terminal: Terminal): Promise<void> {
  terminal.type('\u0004');
  assert.equal(await terminal.ended, 0, terminal.shown());
}

/** A new file of random bytes. */
export function makeFile(path: string, sizeMiB: number): string {
  const bytes = randomBytes(mebibyte);
  writeFileSync(path, bytes);
  // Each MiB is another one, or bytes from the wrong place would not be noticed.
  for (let count = 1; count < sizeMiB; count++) {
    bytes.writeUInt32BE(count);
    writeFileSync(path, bytes, { flag: 'a' });
  }
  return path;
}

export function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

export async function sha256OfFile(path: string): Promise<string> {
  return (await output(['sha256sum', path])).toString().split(' ')[0]!;
}

/** Resolves when a file has grown to `sizeMiB`: the middle of a transfer. */
export function grownTo(path: string, sizeMiB: number): Promise<void> {
  const size = (): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  return eventually(() => size() >= sizeMiB * mebibyte, `${sizeMiB} MiB of ${path}`, 60_000);
}

/** The outcome of a command that must end with 0 and have nothing to complain about. */
export async function succeeded(outcome: Promise<Outcome>): Promise<Outcome> {
  const { code, stdout, stderr } = await outcome;
  assert.equal(code, 0, stderr.toString().slice(-2000));
  const complaints = stderr.toString().replaceAll(/^postern: (?:reconnecting… |resumed ).*\r?\n/gm, '');
  assert.equal(complaints.trim(), '');
  return { code, stdout, stderr };
}
