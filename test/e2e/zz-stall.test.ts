import { it } from 'node:test';
import { randomBytes } from 'node:crypto';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { openScratch } from './support/scratch.ts';
import { openWorld } from './support/world.ts';
import { box } from './support/ssh.ts';
const scratch = openScratch();
it('x', async () => {
  const w = await openWorld(scratch, (process.env.PATHNAME ?? 'direct') as any);
  const bytes = randomBytes(1048576); const whole = Buffer.concat(Array.from({ length: 100 }, () => bytes));
  const file = scratch.path('file'); writeFileSync(file, whole);
  const t00 = Date.now();
  let stalled = false;
  const watched = async (what: string, via: any, f: () => Promise<any>) => {
    const t = Date.now();
    const timer = setTimeout(() => { stalled = true; console.log('STALL', what, via, Date.now() - t00); console.log(spawnSync('sh', ['-c', `ss -tnpoi '( src 127.0.0.1 )' | grep -v TIME-WAIT; ps -eo pid,ppid,stat,time,wchan:20,args | grep -E 'postern|ssh|haproxy' | grep -v grep | cut -c1-160`]).stdout.toString()); console.log(w.gateway.running.log().slice(-1500)); }, 20000);
    const o = await f(); clearTimeout(timer);
    const ms = Date.now() - t; if (o.code !== 0 || ms > 9000) console.log(what, via, o.code, ms, o.stderr.toString().slice(0, 200));
  };
  const vias = (process.env.VIA ?? 'websocket,connect-tcp').split(',');
  let n = 0;
  const lane = async (k: number) => { while (Date.now() - t00 < Number(process.env.SECONDS_ ?? 100) * 1000 && !stalled) { const via = vias[(n++) % vias.length] as any; const ssh = w.ssh(via);
    await watched('up', via, () => ssh.run([box, 'sha256sum'], { input: whole, timeoutMs: 100_000 }));
    await watched('down', via, () => ssh.run([box, `cat ${file}`], { timeoutMs: 100_000 })); } };
  await Promise.all(Array.from({ length: Number(process.env.LANES ?? 3) }, (_, k) => lane(k)));
  console.log('transfers', n);
});
