/** Only `connect` is on the way of every ssh; whatever the others need is loaded when one of them is asked for. */
async function main(): Promise<number> {
  const [command, ...args] = process.argv.slice(2);
  if (command === 'connect') return (await import('./commands/connect.ts')).connect(args, process.env);
  const { run } = await import('./commands/run.ts');
  return run(command, args, process.env);
}

const lingerMs = 300;

async function start(): Promise<void> {
  process.exitCode = await main();
  // All of them may have asked somebody who never answers.
  if (['connect', 'doctor', 'listen'].includes(process.argv[2] ?? '')) leave();
}

/**
 * Ends by itself once nothing is left to do: `process.exit()` can wait for ever for a compiler thread that is at work
 * (nodejs/node#54918, seen after large transfers). Only what is held up elsewhere, such as a name server that does not
 * answer, is cut off.
 */
function leave(): void {
  // It may stay open; `connect` has ended its own, and nothing else may be taken for it.
  if (process.argv[2] !== 'connect') process.stdin.destroy();
  setTimeout(() => process.exit(), lingerMs).unref();
}

void start();
