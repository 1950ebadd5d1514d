import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, get } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { PassThrough } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { RecordDecoder, encodeRecord, recordTypes } from '../../../protocol/http-carrier-record.ts';
import type { CarrierEnd } from '../../../stream/carrier.ts';
import { HttpCarriers } from '../../../server/entry/http-carrier.ts';
import type { ResponseStyle, InboundHttpCarrier } from '../../../server/entry/http-carrier.ts';
import { listen } from '../../client/support.ts';

const times = { noResponseMs: 50, emptyResponseMs: 50 };

/** A real server, each of whose answers is one of the carrier. */
async function answering(
  t: TestContext,
  carrier: InboundHttpCarrier,
): Promise<(style: ResponseStyle) => Promise<IncomingMessage>> {
  const server = createServer((request, response) =>
    carrier.respond(response, request.url === '/brief' ? 'brief' : 'streaming'),
  );
  const port = await listen(t, server);
  return async (style) => {
    const asking = get({ port, host: '127.0.0.1', path: `/${style}`, agent: false });
    const [response] = (await once(asking, 'response')) as [IncomingMessage];
    return response;
  };
}

function typesIn(body: Buffer): number[] {
  return [...new RecordDecoder().push(body)].map(({ type }) => type);
}

function ended(carrier: InboundHttpCarrier): Promise<CarrierEnd> {
  return new Promise((resolve) => carrier.listen({ frame() {}, drained() {}, ended: resolve }));
}

describe('HttpCarrier of the gateway', () => {
  it('begins with what its client signs with, and what was said in the same turn', async (t) => {
    const carrier = new HttpCarriers().open();
    const ask = await answering(t, carrier);
    carrier.send({ kind: 'joined', received: 7, from: 4711 });
    const body = await buffer(await ask('brief'));
    assert.deepEqual(typesIn(body), [recordTypes.CARRIER, recordTypes.TEXT, recordTypes.NEXT]);
    carrier.drop();
  });

  it('gives a brief answer that has nothing to say after a while', async (t) => {
    const carrier = new HttpCarriers().open(times);
    const ask = await answering(t, carrier);
    await buffer(await ask('brief'));
    assert.deepEqual(typesIn(await buffer(await ask('brief'))), [recordTypes.NEXT]);
    carrier.drop();
  });

  it('is lost when nobody asks for an answer any more', async (t) => {
    const carriers = new HttpCarriers();
    const carrier = carriers.open(times);
    const end = ended(carrier);
    const ask = await answering(t, carrier);
    await buffer(await ask('brief'));
    assert.deepEqual(await end, { how: 'dropped' });
    assert.equal(carriers.find(carrier.id), undefined);
  });

  it('is lost when its answer is cut', async (t) => {
    const carrier = new HttpCarriers().open();
    const end = ended(carrier);
    const ask = await answering(t, carrier);
    (await ask('streaming')).destroy();
    assert.deepEqual(await end, { how: 'dropped' });
  });

  it('ends an answer that goes on when its client says that it is held back', async (t) => {
    const carrier = new HttpCarriers().open();
    const ask = await answering(t, carrier);
    const response = await ask('streaming');
    const request = new PassThrough();
    request.end(encodeRecord(recordTypes.BRIEF, Buffer.alloc(0)));
    await carrier.read(request as unknown as IncomingMessage);
    assert.equal(typesIn(await buffer(response)).at(-1), recordTypes.NEXT);
    carrier.drop();
  });

  it('says why it is closed, to a client that asks a moment later too', async (t) => {
    const carrier = new HttpCarriers().open();
    const ask = await answering(t, carrier);
    await buffer(await ask('brief'));
    carrier.close(4401, 'REVOKED');
    const records = [...new RecordDecoder().push(await buffer(await ask('streaming')))];
    const close = records.find(({ type }) => type === recordTypes.CLOSE)!;
    assert.equal(close.bytes.readUInt16BE(0), 4401);
    assert.equal(close.bytes.subarray(2).toString(), 'REVOKED');
    assert.ok(records.every(({ type }) => type !== recordTypes.NEXT));
  });
});
