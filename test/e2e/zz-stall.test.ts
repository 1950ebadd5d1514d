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
    const timer = setTimeout(() => { stalled = true; console.log('STALL', what, via, Date.now() - t00); console.log(spawnSync('sh', ['-c', `for p in $(ps -eo pid,wchan:30,args | grep futex | grep "postern.cjs connect" | grep -v grep | awk '{print $1}'); do ls -l /proc/$p/fd; grep -E "Sig|Shd" /proc/$p/status; for t in /proc/$p/task/*; do cat $t/comm $t/wchan; echo; done; gdb -p $p -batch -ex 'thread apply all bt 25' 2>/dev/null; done`]).stdout.toString()); }, 20000);
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
