// Reads `{ gateway, files }` on stdin and writes the first hop by each of the PAC files: a program of its own, so that it can
// run with other names than those of this machine.
import { text } from 'node:stream/consumers';
import { evaluatePac } from '../../../client/egress/pac/pac.ts';
import { hopName } from '../../../client/egress/proxy/proxy-url.ts';
import type { Target } from '../../../protocol/target.ts';

const { gateway, files } = JSON.parse(await text(process.stdin)) as {
  readonly gateway: Target;
  readonly files: readonly string[];
};
const signal = new AbortController().signal;
const hops: string[] = [];
for (const file of files) {
  const answer = await evaluatePac(file, gateway, signal).catch(() => undefined);
  hops.push(answer === undefined ? 'direct' : hopName(answer.hops[0]!));
}
process.stdout.write(JSON.stringify(hops));
