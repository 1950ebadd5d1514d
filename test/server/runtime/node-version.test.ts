import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { nodeProblem } from '../../../server/runtime/node-version.ts';

const good = ['22.23.2', '22.24.0', '24.18.1', '24.21.0', '26.0.0', '26.10.0', '27.0.0', '28.1.2'];
const bad = ['18.20.4', '20.20.2', '21.7.3', '22.23.1', '22.9.9', '23.11.0', '24.18.0', '24.2.0', '25.9.0'];

describe('the floor of Node.js versions', () => {
  for (const version of good)
    it(`${version} is good enough`, () => assert.equal(nodeProblem(version), undefined));
  for (const version of bad)
    it(`${version} is too old`, () => assert.match(nodeProblem(version)!, /too old/));
  it('lets this one in', () => assert.equal(nodeProblem(), undefined));
});
