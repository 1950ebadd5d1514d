import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { CheckStatus, Finding } from '../../../diagnostics/finding.ts';
import type { TunnelErrorCode } from '../../../protocol/errors.ts';
import { summarize } from '../../../server/commands/doctor.ts';
import { explainRefusal } from '../../../server/commands/explain-refusal.ts';
import type { Config } from '../../../server/config/config.ts';
import { parseConfig } from '../../../server/config/parse.ts';
import { gatewayCommand, startGateway } from '../../e2e/support/gateway.ts';
import { freePort, run } from '../../e2e/support/process.ts';
import { openScratch } from '../../e2e/support/scratch.ts';

const scratch = openScratch();

function found(title: string, status: CheckStatus): Finding {
  const check = /headers/.test(title) ? 'headers' : `entry-${title}`;
  return { check, title, status, what: 'x' };
}

describe('the summary of the gateway doctor', () => {
  const fast = ['relay', 'websocket', 'connect-tcp'];

  it('says that the gateway can be reached', () => {
    const findings = [...fast, 'http'].map((title) => found(title, 'ok'));
    assert.equal(summarize(findings), 'The gateway can be reached.');
  });

  it('names what costs something', () => {
    const findings = [
      found('relay', 'ok'),
      found('connect-tcp', 'warning'),
      found('large headers', 'warning'),
    ];
    assert.equal(
      summarize(findings),
      'The gateway can be reached. Worth a look: connect-tcp, large headers.',
    );
  });

  it('says that it is slow where no upgrade arrives', () => {
    const findings = [
      ...fast.map((title) => found(title, 'warning')),
      found('http', 'ok'),
      found('connect', 'skipped'),
      found('large headers', 'warning'),
    ];
    assert.equal(
      summarize(findings),
      'Works, but slowly: no upgrade reaches the gateway. Fix: relay, websocket, connect-tcp. Worth a look: large headers.',
    );
  });
});

function config(more: string): Config {
  return parseConfig(`targets: { box: { address: '127.0.0.2:22' } }\n${more}`, { file: 'x', env: {} });
}

describe('explainRefusal()', () => {
  const box = { host: 'box', port: 22 };
  const explain = (more: string, code: TunnelErrorCode = 'ADDRESS_DENIED') =>
    explainRefusal(config(more), code, box);

  it('has the line that opens an address', async () => {
    const closed = await explain('');
    assert.match(closed!.why, /the network policy refuses 127\.0\.0\.2: .*loopback/);
    assert.match(closed!.advice, /all other ranges .* have to be listed too/);
    assert.deepEqual(closed!.lines, ['network: { allow: [127.0.0.2/32] }']);
    const listed = await explain('network: { allow: [10.0.0.0/8] }');
    assert.deepEqual(listed!.lines, ['network: { allow: [10.0.0.0/8, 127.0.0.2/32] }']);
    assert.doesNotMatch(listed!.advice, /all other ranges/);
  });

  it('says where no line opens it', async () => {
    const denied = await explain('network: { allow: [127.0.0.0/8], deny: [127.0.0.2/32] }');
    assert.match(denied!.advice, /take that range out of network\.deny/);
    assert.deepEqual(denied!.lines, []);
  });

  it('has the line of a rule', async () => {
    const denied = await explain('rules: [{ groups: [dev], targets: [a.example] }]', 'TARGET_DENIED');
    assert.deepEqual(denied!.lines, ["- { groups: [dev], targets: ['box:22'] }"]);
  });
});

describe('postern-gateway doctor --host', () => {
  it('says the reason of the gateway, and the line to add', async () => {
    const port = await freePort();
    const gateway = await startGateway(scratch, {
      targets: { box: '127.0.0.2:22', nobody: `127.0.0.1:${port}` },
    });
    const url = `http://127.0.0.1:${gateway.port}/ssh/`;
    const doctor = async (host: string) => {
      const argv = [
        ...gatewayCommand,
        'doctor',
        '--json',
        '--host',
        host,
        '--config',
        gateway.configFile,
        url,
      ];
      const { code, stdout } = await run(argv);
      assert.equal(code, 1);
      const { findings } = JSON.parse(String(stdout)) as { findings: (Finding & { to_do?: string })[] };
      return JSON.stringify(findings.find(({ check }) => check === 'tunnel'));
    };
    const denied = await doctor('box');
    assert.match(denied, /the network policy refuses 127\.0\.0\.2: .*\(ADDRESS_DENIED\)/);
    assert.match(denied, /network: \{ allow: \[127\.0\.0\.1\/32, 127\.0\.0\.2\/32\] \}/);
    assert.doesNotMatch(denied, /the answer is/);
    const refused = await doctor('nobody');
    assert.match(refused, new RegExp(`nothing listens at 127\\.0\\.0\\.1:${port}.*\\(DIAL_REFUSED\\)`));
    assert.match(refused, /ssh-keyscan/);
    await gateway.running.stop();
  });
});
