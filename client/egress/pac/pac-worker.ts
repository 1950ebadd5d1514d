// Runs in a thread of its own and, in what is shipped, from a file of its own: dist/postern-pac.cjs.
import { setFlagsFromString } from 'node:v8';
import { parentPort, workerData } from 'node:worker_threads';
import { brotliDecompressSync } from 'node:zlib';
import { QuickJS } from 'quickjs-wasi';
import type { JSValueHandle } from 'quickjs-wasi';
import { hostFunctions } from './pac-host-functions.ts';
import { pacFunctionsScript } from './pac-functions.ts';
import { ownAddresses } from './own-addresses.ts';
import type { PacOutcome, PacWorkerData } from './pac-run.ts';

/** Defined by the build: the WebAssembly of QuickJS, compressed. The sources read it from its package. */
declare const POSTERN_QUICKJS: string | undefined;

const memoryBytes = 64 * 1024 * 1024;
const pageBytes = 64 * 1024;

async function createSandbox({ lookups }: PacWorkerData): Promise<QuickJS> {
  const packed = typeof POSTERN_QUICKJS === 'string' ? POSTERN_QUICKJS : undefined;
  // The sandbox's own limit does not count large blocks.
  setFlagsFromString(`--wasm-max-mem-pages=${memoryBytes / pageBytes}`);
  const sandbox = await QuickJS.create({
    memoryLimit: memoryBytes,
    ...(packed === undefined ? {} : { wasm: brotliDecompressSync(Buffer.from(packed, 'base64')) }),
  });
  const facts = { ownAddresses: await ownAddresses(), lookups };
  for (const [name, call] of Object.entries(hostFunctions(facts))) {
    const made = sandbox.newFunction(name, (...handles) =>
      sandbox.hostToHandle(call(...handles.map((handle) => primitive(sandbox, handle)))),
    );
    sandbox.setProp(sandbox.global, name, made);
  }
  // `console` is there in browsers too, and nothing reads it.
  const methods = 'assert clear count debug dir error group groupEnd info log table time timeEnd trace warn';
  const console = `this.console = {}; '${methods}'.split(' ').forEach(function (name) { console[name] = alert; });`;
  sandbox.evalCode(`${console}\n${pacFunctionsScript()}`, 'postern').dispose();
  return sandbox;
}

/** Objects of the sandbox stay there: no host function takes one. */
function primitive(sandbox: QuickJS, handle: JSValueHandle): unknown {
  return handle.isString || handle.isNumber || handle.isBool ? sandbox.dump(handle) : undefined;
}

async function evaluate(data: PacWorkerData): Promise<PacOutcome> {
  let sandbox: QuickJS;
  try {
    sandbox = await createSandbox(data);
    sandbox.evalCode(data.script, 'proxy.pac').dispose();
    sandbox.executePendingJobs();
  } catch (error) {
    return { unusable: `does not run: ${messageOf(error)}` };
  }
  const find = sandbox.global.getProp('FindProxyForURL');
  if (!find.isFunction) return { unusable: 'has no function FindProxyForURL' };
  try {
    const [url, host] = [sandbox.newString(data.url), sandbox.newString(data.host)];
    const result = sandbox.callFunction(find, sandbox.undefined, url, host);
    if (!result.isString) return { failed: 'returned something else than text' };
    return { result: result.toString() };
  } catch (error) {
    return { failed: `failed: ${messageOf(error)}` };
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

void evaluate(workerData as PacWorkerData).then((outcome) => parentPort!.postMessage(outcome, []));
