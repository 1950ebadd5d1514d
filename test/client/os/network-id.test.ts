import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { describe, it } from 'node:test';
import { networkId } from '../../../client/os/network-id.ts';

const module = new URL('../../../client/os/network-id.ts', import.meta.url).href;
const ask = `const { networkId } = await import(${JSON.stringify(module)}); console.log(networkId());`;

/** What a namespace of its own, set up by these commands of `ip`, is called. */
function named(...commands: readonly string[]): string {
  const script = ['link add p0 type veth peer name p1', 'link set p0 up', 'link set p1 up', ...commands]
    .map((command) => `ip ${command}`)
    .join(' && ');
  const argv = ['--net', 'sh', '-c', `${script} && exec "$0" --input-type=module -e "$1"`];
  return execFileSync('unshare', [...argv, process.execPath, ask], { encoding: 'utf8' }).trim();
}

const isAble = spawnSync('unshare', ['--net', 'ip', 'link']).status === 0;

describe('networkId()', () => {
  it('is the same as long as nothing changes, and tells nothing', () => {
    assert.match(networkId(), /^[\w-]{16}$/);
    assert.equal(networkId(), networkId());
  });

  it(
    'goes by the network and its gateway, not by the address',
    { skip: !isAble && 'no namespaces here' },
    () => {
      const home = named('addr add 192.0.2.7/24 dev p0', 'route add default via 192.0.2.1');
      assert.equal(named('addr add 192.0.2.9/24 dev p0', 'route add default via 192.0.2.1'), home);
      assert.notEqual(named('addr add 192.0.2.7/24 dev p0', 'route add default via 192.0.2.254'), home);
      assert.notEqual(named('addr add 198.51.100.7/24 dev p0', 'route add default via 198.51.100.1'), home);
    },
  );
});
