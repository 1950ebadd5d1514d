import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { parseJsonObject } from '../../../../server/auth/jwt/strict-json.ts';

const numRuns = Number(process.env['POSTERN_FUZZ_RUNS'] ?? 200);

describe('parseJsonObject()', () => {
  const once = [
    '{}',
    ' { "a" : 1 , "b" : [ { "a" : 1 } , { "a" : 2 } ] } ',
    '{"a":{"a":{"a":1}},"b":{"a":1}}',
    '{"a":"b\\":","b\\":":"a"}',
    '{"a":"\\\\","b":"\\\\\\"\\\\"}',
    '{"a":"{\\"a\\":1,\\"a\\":2}"}',
    '{"":1,"\\"":2,"\\\\":3,"\\\\\\\\":4}',
    '{"é":1,"e\u0301":2}',
  ];
  for (const text of once)
    it(`accepts ${text}`, () => assert.deepEqual(parseJsonObject(text), JSON.parse(text)));

  const refused = [
    '{"a":1,"a":1}',
    '{"a":1,"\\u0061":2}',
    '{"a":1,"b":2,"a":3}',
    '{"x":{"a":1,"a":2}}',
    '{"x":[[{"a":1,"b":{},"a":2}]]}',
    '{"":1,"":2}',
    '{"\\"":1,"\\u0022":2}',
    '{"\\\\":1,"\\u005c":2}',
    '{"__proto__":1,"__proto__":2}',
    '[]',
    'null',
    '"a"',
    '{"a":1',
    '{"a":1}}',
  ];
  for (const text of refused)
    it(`refuses ${text}`, () => assert.throws(() => parseJsonObject(text), SyntaxError));

  it('refuses an object exactly when it names a member twice, however the names are spelled', () => {
    const name = fc.oneof(fc.constantFrom('a', '"', '\\', '\\"', '{', ':', '\u2028'), fc.string());
    const spelled = fc.tuple(name, fc.boolean());
    const members = fc.array(fc.tuple(spelled, fc.jsonValue()), { maxLength: 6 });
    const property = fc.property(members, fc.boolean(), (members, inside) => {
      const body = members.map(([name, value]) => `${spell(name)}:${JSON.stringify(value)}`).join(',');
      const text = inside ? `{"outer":[1,{${body}}]}` : `{${body}}`;
      const names = members.map(([[name]]) => name);
      if (new Set(names).size === names.length) assert.doesNotThrow(() => parseJsonObject(text));
      else assert.throws(() => parseJsonObject(text), SyntaxError);
    });
    fc.assert(property, { numRuns });
  });
});

/** The name as JSON, with every character escaped or only those that must be. */
function spell([name, isEscaped]: readonly [string, boolean]): string {
  if (!isEscaped) return JSON.stringify(name);
  const units = Array.from({ length: name.length }, (_, at) => name.charCodeAt(at));
  return `"${units.map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`).join('')}"`;
}
