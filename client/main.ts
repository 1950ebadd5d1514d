/** Only `connect` is on the way of every ssh; whatever the others need is loaded when one of them is asked for. */
async function main(): Promise<number> {
  const [command, ...args] = process.argv.slice(2);
  if (command === 'connect') return (await import('./commands/connect.ts')).connect(args, process.env);
  const { run } = await import('./commands/run.ts');
  return run(command, args, process.env);
}

async function start(): Promise<void> {
  process.exitCode = await main();
  // ssh's end of the input may stay open. One turn of the loop lets the last bytes of the tunnel go out.
  if (process.argv[2] === 'connect') setImmediate(() => process.exit());
}

void start();
