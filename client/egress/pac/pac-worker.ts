// Runs in a thread of its own and, in what is shipped, from a file of its own: dist/postern-pac.cjs.
import { createSocket } from 'node:dgram';
import { lookup } from 'node:dns';
import { isIPv4 } from 'node:net';
import { networkInterfaces } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import { parentPort, workerData } from 'node:worker_threads';
import { brotliDecompressSync } from 'node:zlib';
import { createPacResolver } from 'pac-resolver';
import { QuickJS } from 'quickjs-wasi';
import type { PacResponse, PacRequest } from './pac-run.ts';

/** Defined by the build: the WebAssembly of QuickJS, compressed. The sources read it from its package. */
declare const POSTERN_QUICKJS: string | undefined;

const memoryBytes = 64 * 1024 * 1024;
const pageBytes = 64 * 1024;

/** PAC files look up names that only the company's own DNS has; elsewhere that must not use up all the time. */
const lookupMs = 1500;

function address4(host: string): Promise<string | null> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(null), lookupMs);
    lookup(host, { family: 4 }, (error, address) => {
      clearTimeout(timer);
      resolve(error === null ? address : null);
    });
  });
}

function number4(address: string): number {
  return address.split('.').reduce((sum, byte) => sum * 256 + Number(byte), 0);
}

/** Functions of a PAC file that in the package could wait for ever, print, or query a public server. */
const own = {
  alert(): void {},
  async dnsResolve(host: unknown): Promise<string | null> {
    return address4(String(host));
  },
  async isResolvable(host: unknown): Promise<boolean> {
    return (await address4(String(host))) !== null;
  },
  async isInNet(host: unknown, pattern: unknown, mask: unknown): Promise<boolean> {
    const address = await address4(String(host));
    const [network, bits] = [String(pattern), String(mask)];
    if (address === null || !isIPv4(network) || !isIPv4(bits)) return false;
    return (number4(address) & number4(bits)) === (number4(network) & number4(bits));
  },
  async myIpAddress(): Promise<string> {
    return (await routedAddress()) ?? firstAddress();
  },
};

/** The address from which packets to the internet go; connecting a UDP socket sends none. */
function routedAddress(): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4');
    const give = (address: string | undefined): void => {
      socket.close();
      resolve(address);
    };
    socket.once('error', () => give(undefined));
    // A public address for documentation (RFC 5737).
    socket.once('connect', () => give(socket.address().address));
    socket.connect(53, '192.0.2.1');
  });
}

function firstAddress(): string {
  const all = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
  return all.find(({ internal, family }) => !internal && family === 'IPv4')?.address ?? '127.0.0.1';
}

async function evaluate({ script, url, host }: PacRequest): Promise<PacResponse> {
  try {
    const packed = typeof POSTERN_QUICKJS === 'string' ? POSTERN_QUICKJS : undefined;
    // The sandbox's own limit does not count large blocks.
    setFlagsFromString(`--wasm-max-mem-pages=${memoryBytes / pageBytes}`);
    const sandbox = await QuickJS.create({
      memoryLimit: memoryBytes,
      ...(packed === undefined ? {} : { wasm: brotliDecompressSync(Buffer.from(packed, 'base64')) }),
    });
    const result: unknown = await createPacResolver(sandbox, script, { sandbox: own })(url, host);
    return { result: typeof result === 'string' ? result : '' };
  } catch (error) {
    return { failed: error instanceof Error ? error.message : String(error) };
  }
}

void evaluate(workerData as PacRequest).then((result) => parentPort!.postMessage(result, []));
