import { readFileSync } from 'node:fs';
import { gatewayCommand, type Gateway } from './gateway.ts';
import { eventually, start, type Running } from './process.ts';
import type { Scratch } from './scratch.ts';

/** Starts one more process of a gateway, with the same configuration, and waits until it has taken over. */
export async function startNext(scratch: Scratch, { port, configFile }: Gateway): Promise<Running> {
  const running = await start(scratch, [...gatewayCommand, 'serve', '--config', configFile], { port });
  await logs(running, 'listening');
  return running;
}

/** Waits until a process has logged a message. */
export async function logs(running: Running, message: string): Promise<void> {
  let hasEnded = false;
  void running.ended.then(() => (hasEnded = true));
  const isThere = (): boolean => {
    if (hasEnded) throw new Error(`it has ended:\n${running.log()}`);
    return running.log().includes(`"msg":"${message}"`);
  };
  await eventually(isThere, `the message "${message}"`, 60_000);
}

export type AuditRecord = Readonly<Record<string, unknown>>;

/** What the audit says so far, without what it says of the gateway's processes and of itself. */
export function auditOf({ auditFile }: Pick<Gateway, 'auditFile'>): readonly AuditRecord[] {
  const lines = readFileSync(auditFile, 'utf8').split('\n').slice(0, -1);
  const records = lines.map((line) => JSON.parse(line) as AuditRecord);
  return records.filter(({ event }) => !['start', 'stop', 'audit'].includes(String(event)));
}

/** Waits until the audit has so many records that match. */
export async function audited(
  gateway: Gateway,
  count: number,
  matches: (record: AuditRecord) => boolean,
): Promise<readonly AuditRecord[]> {
  let found: readonly AuditRecord[] = [];
  const isThere = (): boolean => (found = auditOf(gateway).filter(matches)).length >= count;
  await eventually(isThere, `${count} such audit records`, 60_000).catch((cause: unknown) => {
    throw new Error(`only this: ${JSON.stringify(auditOf(gateway).slice(-20))}`, { cause });
  });
  return found;
}
