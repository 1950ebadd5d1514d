/** Runs the command line. `connect` runs before every ssh, so nothing else is loaded for it; the other commands load what they need. */
async function main(): Promise<number> {
  const [command, ...args] = process.argv.slice(2);
  if (command === 'connect') return (await import('./commands/connect.ts')).connect(args, process.env);
  const { run } = await import('./commands/run.ts');
  return run(command, args, process.env);
}

/** Time for the event loop to become empty by itself. */
const lingerMs = 300;

async function start(): Promise<void> {
  process.exitCode = await main();
  // These can have a request to a peer or a name server under way that is never answered.
  if (['connect', 'doctor', 'listen'].includes(process.argv[2] ?? '')) exitSoon();
}

/**
 * Lets the process end by itself once nothing is left to do: `process.exit()` can wait for ever for a compiler thread that
 * is at work (nodejs/node#54918, seen after large transfers). Only what is held up elsewhere, such as a name server that
 * does not answer, is cut off.
 */
function exitSoon(): void {
  // The caller's end of it can stay open. `connect` has closed its own already; another stream must not be taken for it.
  if (process.argv[2] !== 'connect') process.stdin.destroy();
  setTimeout(() => process.exit(), lingerMs).unref();
}

void start();
