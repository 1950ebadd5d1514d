import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  formatWorkerContext,
  workerContext,
  workerDescriptors,
} from '../../../server/cluster/worker-context.ts';

const context = { generation: 'abcdefgh', number: 2, workers: 4, column: 5, columns: 8 };

/** The environment as our own supervisor would see it, were it this process's parent. */
function environment(value = formatWorkerContext(context)): NodeJS.ProcessEnv {
  return { POSTERN_WORKER: value.replace(String(process.pid), String(process.ppid)) };
}

/** A worker has a channel to its supervisor. */
function withChannel<T>(work: () => T): T {
  const hasChannel = process.send !== undefined;
  if (!hasChannel) process.send = () => true;
  try {
    return work();
  } finally {
    if (!hasChannel) delete process.send;
  }
}

describe('the context of a worker', () => {
  it('is read as it was written, with the version of the supervisor', () =>
    assert.deepEqual(
      withChannel(() => workerContext(environment())),
      { ...context, supervisorVersion: 1, writesAudit: true },
    ));

  it('is read from a supervisor that names no version', () =>
    assert.deepEqual(
      withChannel(() => workerContext(environment(`${process.ppid} abcdefgh 2 4 5 8`))),
      { ...context, supervisorVersion: 0, writesAudit: false },
    ));

  it('may have more than is known', () =>
    assert.deepEqual(
      withChannel(() => workerContext(environment(`${process.ppid} abcdefgh 2 4 5 8 3 1 more`))),
      { ...context, supervisorVersion: 3, writesAudit: true },
    ));

  for (const value of ['', '1 abcdefgh 2 4 5 8', `${process.ppid} abcdefgh 2 4 5`]) {
    it(`is none in ${JSON.stringify(value)}`, () =>
      assert.equal(
        withChannel(() => workerContext({ POSTERN_WORKER: value })),
        undefined,
      ));
  }

  it('puts the counts behind the sockets, of which an older supervisor passes one', () => {
    assert.deepEqual(workerDescriptors({}), { sockets: [{ name: 'http', fd: 3 }], counts: 4 });
    assert.deepEqual(workerDescriptors({ POSTERN_LISTEN_FDNAMES: 'http:raw' }), {
      sockets: [
        { name: 'http', fd: 3 },
        { name: 'raw', fd: 4 },
      ],
      counts: 5,
    });
  });
});
