import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { root } from '../../support/source-tree.ts';

describe('a log on a full disk', () => {
  it('ends nothing, and holds up no exit', async () => {
    const script = `
      const { standardLog } = await import('${join(root, 'server/telemetry/log.ts')}');
      const log = standardLog('info');
      let lines = 0;
      const timer = setInterval(() => {
        log.error('a line');
        if (++lines < 20) return;
        clearInterval(timer);
        process.stderr.write('still here');
      }, 10);
    `;
    const child = spawn(
      'sh',
      ['-c', 'exec "$@" >/dev/full', 'sh', process.execPath, '--input-type=module', '-e', script],
      {
        stdio: ['ignore', 'ignore', 'pipe'],
        timeout: 60_000,
        killSignal: 'SIGKILL',
      },
    );
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    const [code] = await once(child, 'close');
    assert.equal(code, 0, stderr);
    assert.match(stderr, /still here/);
  });
});
