import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from 'node:tls';
import type { TLSSocket } from 'node:tls';
import { exampleValues, fillIn } from '../../../server/commands/fill-in.ts';
import type { Certificates } from '../../e2e/support/certificates.ts';
import { packageDirectory } from '../../e2e/support/needs.ts';
import { freePort } from '../../e2e/support/process.ts';
import { fronts } from '../../e2e/support/proxies.ts';
import type { Scratch } from '../../e2e/support/scratch.ts';

/** A proxy before the gateway: as we ship it, or set up to use its connections to the gateway again and again. */
export type Variant = 'haproxy' | 'haproxy that reuses always' | 'nginx' | 'nginx that reuses';

const changes: Record<Variant, (shipped: string, upstream: string) => string> = {
  haproxy: (shipped) => shipped,
  'haproxy that reuses always': (shipped) =>
    shipped.replace('http-reuse safe', 'http-reuse always').replace('option http-server-close\n', '\n'),
  nginx: (shipped) => shipped,
  'nginx that reuses': (shipped, upstream) =>
    `upstream pool { server ${upstream}; keepalive 8; }\n${shipped
      .replaceAll(`proxy_pass http://${upstream}`, 'proxy_pass http://pool')
      .replace(/""( +)close;/, '""$1"";')}`,
};

/** Starts the proxy; gives its TLS port. */
export async function startVariant(
  scratch: Scratch,
  variant: Variant,
  plan: { readonly certificates: Certificates; readonly upstreamPort: number },
): Promise<number> {
  const name = variant.startsWith('nginx') ? 'nginx' : 'haproxy';
  const { certificates, upstreamPort } = plan;
  const port = await freePort();
  const upstream = `127.0.0.1:${upstreamPort}`;
  const shipped = fillIn(readFileSync(join(packageDirectory, fronts[name].file), 'utf8'), {
    ...exampleValues,
    publicUrl: `https://localhost:${port}/ssh/`,
    host: 'localhost',
    port: String(port),
    listen4: `127.0.0.1:${port}`,
    listen6: `127.0.0.2:${port}`,
    upstream,
    upstreamUrl: `http://${upstream}`,
    certificateFile: name === 'haproxy' ? certificates.combinedFile : certificates.certificateFile,
    keyFile: certificates.keyFile,
  });
  const changed = changes[variant](shipped, upstream);
  if (variant.includes('reuses') && changed === shipped) throw new Error('nothing was changed');
  const file = scratch.path(`${variant.replaceAll(' ', '-')}-${port}.shipped`);
  writeFileSync(file, changed);
  await fronts[name].start(scratch, file, { certificates, port, upstreamPort });
  return port;
}

/** A client of the proxy on one connection, which sends one request after the other. */
export class FrontClient {
  readonly #socket: TLSSocket;
  #received = '';
  #closed = false;
  #wake: () => void = () => {};

  constructor(port: number) {
    this.#socket = connect({ port, host: '127.0.0.1', servername: 'localhost', rejectUnauthorized: false });
    this.#socket.on('error', () => {});
    this.#socket.on('data', (chunk: Buffer) => {
      this.#received += chunk.toString('latin1');
      this.#wake();
    });
    this.#socket.on('close', () => {
      this.#closed = true;
      this.#wake();
    });
  }

  get closed(): boolean {
    return this.#closed || this.#socket.readableEnded;
  }

  /** The next whole answer, or undefined when the connection ends first. */
  async ask(request: string): Promise<string | undefined> {
    this.#socket.write(request, 'latin1');
    for (;;) {
      const answer = /^[^]*?\r\n\r\n/.exec(this.#received)?.[0];
      const length = answer === undefined ? 0 : Number(/\r\ncontent-length: (\d+)/i.exec(answer)?.[1] ?? 0);
      if (answer !== undefined && this.#received.length >= answer.length + length) {
        const whole = this.#received.slice(0, answer.length + length);
        this.#received = this.#received.slice(whole.length);
        return whole;
      }
      if (this.#closed) return undefined;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** Everything else that comes until the connection ends, or for `ms`. */
  async rest(ms: number): Promise<string> {
    const late = setTimeout(() => this.close(), ms);
    while (!this.#closed) await new Promise<void>((resolve) => (this.#wake = resolve));
    clearTimeout(late);
    return this.#received;
  }

  close(): void {
    this.#socket.destroy();
  }
}
