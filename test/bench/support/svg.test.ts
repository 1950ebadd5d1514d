import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { draw, escapeXml } from '../../../bench/support/svg.ts';
import { run } from '../../e2e/support/process.ts';
import { needs } from '../../e2e/support/needs.ts';

const hostile = `</text><script>alert("1")</script>&'\u0000\u0008\ud800\ufffe`;

const drawing = {
  title: hostile,
  description: hostile,
  columns: [
    { key: 'cpu', heading: [hostile, 'b'], digits: 2, isBar: true },
    { key: 'rss', heading: ['c', 'd'], digits: 0, isBar: false },
  ],
  rows: [
    { what: 'ours', group: hostile, values: { cpu: 1, rss: 10 } },
    { what: hostile, group: hostile, values: { cpu: 4, rss: Number.NaN } },
    { what: 'neither', group: 'other', values: { cpu: Number.NaN, rss: 3 } },
  ],
  isOurs: ({ what }: { readonly what: string }) => what === 'ours',
  footnote: hostile,
} as const;

describe('draw()', () => {
  const svg = draw(drawing);

  it('has nothing but texts of what it is given', () => {
    assert.doesNotMatch(svg, /<script/);
    assert.ok(svg.includes('&lt;/text&gt;&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;<'));
  });

  it('is XML', needs('python3'), async () => {
    const parse = 'import sys, xml.dom.minidom; xml.dom.minidom.parseString(sys.stdin.buffer.read())';
    const { code, stderr } = await run(['python3', '-c', parse], { input: svg });
    assert.equal(code, 0, stderr.toString());
  });

  it('says what it is to those who do not see it, and has colours for light and for dark', () => {
    assert.match(
      svg,
      /^<svg [^>]*role="img" aria-labelledby="t d">\n<title id="t">[^<]+<\/title>\n<desc id="d">[^<]+</,
    );
    assert.match(svg, /@media \(prefers-color-scheme:dark\)/);
  });

  it('has a bar as long as its number says, and ours in a colour of its own', () => {
    const bars = [...svg.matchAll(/<rect class="([bc])" [^>]*width="(\d+)"/g)].map(([, kind, width]) => [
      kind,
      Number(width),
    ]);
    const [ours, other] = bars as [[string, number], [string, number]];
    assert.equal(bars.length, 2);
    assert.deepEqual([ours[0], other[0]], ['c', 'b']);
    assert.ok(Math.abs(ours[1] * 4 - other[1]) <= 4, JSON.stringify(bars));
  });

  it('is small', () => assert.ok(svg.length < 8 * 1024, `${svg.length}`));
});

describe('escapeXml()', () => {
  it('keeps every other character', () => assert.equal(escapeXml('× – ü 😀\n'), '× – ü 😀\n'));
});
