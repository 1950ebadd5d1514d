/** A PAC file, and the answer of Chromium to it. */
export interface PacCase {
  readonly name: string;
  /** The whole file: `$A` and `$B` are proxies, `$P` is the port of the gateway. */
  readonly file: string;
  /** The first connection for `https://gw.example:$P/`: the protocol and the server, as `http A` or `direct`. */
  readonly answer: string;
}

const returning = (expression: string): string =>
  `function FindProxyForURL(url, host) { return ${expression}; }`;
const choosing = (condition: string): string => returning(`(${condition}) ? 'PROXY $A' : 'PROXY $B'`);
/** At a moment of this machine's own time zone: the functions of PAC files use the `Date` of the file. */
const at = (moment: string, condition: string): string =>
  `var Real = Date; Date = function () { return arguments.length ? new (Function.prototype.bind.apply(Real, [null].concat([].slice.call(arguments)))) : new Real(${moment}); };
${choosing(condition)}`;
const lines = (count: number, line: (at: number) => string): string =>
  Array.from({ length: count }, (_, at) => line(at)).join('\n');
const yes = 'http A';
const no = 'http B';

const rows: readonly (readonly [name: string, file: string, answer: string])[] = [
  // What it returns
  ['a proxy', returning(`'PROXY $A'`), yes],
  ['a direct connection', returning(`'DIRECT'`), 'direct'],
  ['an empty text', returning(`''`), 'direct'],
  ['blanks and semicolons', returning(`' ;; '`), 'direct'],
  ['lower case', returning(`'proxy $A; direct'`), yes],
  ['several blanks', returning(`'  PROXY   $A  ; DIRECT'`), yes],
  ['a tab', returning(String.raw`'PROXY\t$A'`), yes],
  ['a proxy by TLS', returning(`'HTTPS $A'`), 'tls A'],
  ['SOCKS', returning(`'SOCKS $B'`), 'socks4 B'],
  ['SOCKS4', returning(`'SOCKS4 $B'`), 'socks4 B'],
  ['SOCKS5', returning(`'SOCKS5 $B'`), 'socks5 B'],
  ['an unknown kind before a known one', returning(`'PIGEON $A; PROXY $B'`), no],
  ['only unknown kinds', returning(`'PIGEON $A'`), 'direct'],
  ['a proxy without a name before another', returning(`'PROXY; PROXY $B'`), no],
  ['a port that is too large before another', returning(`'PROXY 127.0.0.1:99999; PROXY $B'`), no],
  ['a URL instead of a name', returning(`'PROXY http://$A; PROXY $B'`), no],
  ['a user in front of a name', returning(`'PROXY u:p@$A; PROXY $B'`), no],
  ['two names', returning(`'PROXY $A $B; PROXY $B'`), no],
  ['a path after a name', returning(`'PROXY $A/x; PROXY $B'`), no],
  ['DIRECT with a name', returning(`'DIRECT $A; PROXY $B'`), no],
  ['null', returning('null'), 'direct'],
  ['undefined', returning('undefined'), 'direct'],
  ['a number', returning('7'), 'direct'],
  ['a list', returning(`['PROXY $A']`), 'direct'],
  ['a String object', returning(`new String('PROXY $A')`), 'direct'],
  ['a promise', `async ${returning(`'PROXY $A'`)}`, 'direct'],
  ['an exception', `function FindProxyForURL() { throw 1; }`, 'direct'],
  ['an unknown function', returning('whatIsThis(host)'), 'direct'],
  // How it is written
  ['a function in a variable', `var FindProxyForURL = function (url, host) { return 'PROXY $A'; };`, yes],
  ['an arrow function', `FindProxyForURL = (url, host) => 'PROXY $A';`, yes],
  ['a function in a constant', `const FindProxyForURL = (url, host) => 'PROXY $A';`, 'direct'],
  ['strict mode', `'use strict';\n${returning(`'PROXY $A'`)}`, yes],
  ['HTML comments', `<!-- old\n${returning(`'PROXY $A'`)}\n--> old`, yes],
  ['carriage returns', returning(`'PROXY $A'`).replace('{ ', '{\r\n').replace('; ', ';\r'), yes],
  ['a syntax error', returning(`'PROXY $A`), 'direct'],
  ['a web page', '<html>sign in</html>', 'direct'],
  ['nothing', '', 'direct'],
  ['an error at its top', `${returning(`'PROXY $A'`)} whatIsThis();`, 'direct'],
  ['its function twice', `${returning(`'PROXY $B'`)} ${returning(`'PROXY $A'`)}`, yes],
  ['a global variable', `var p = 'PROXY $A';\n${returning('p')}`, yes],
  [
    'a class, a template and a default',
    `class C { get(p = '$A') { return \`PROXY \${p}\`; } }\n${returning('new C().get()')}`,
    yes,
  ],
  ['a named group', choosing(`/(?<name>gw)/.exec(host).groups.name === 'gw'`), yes],
  [
    'a switch',
    `function FindProxyForURL(url, host) { switch (host) { case 'gw.example': return 'PROXY $A'; default: return 'PROXY $B'; } }`,
    yes,
  ],
  ['this', choosing('this === globalThis'), yes],
  ['the arguments', choosing('arguments.length === 2'), yes],
  ['the URL without its path', choosing(`url === 'https://gw.example:$P/'`), yes],
  ['the host', choosing(`host === 'gw.example'`), yes],
  [
    'no functions of web pages',
    choosing(`typeof window + typeof setTimeout + typeof XMLHttpRequest === 'undefinedundefinedundefined'`),
    yes,
  ],
  [
    'console and alert',
    `function FindProxyForURL() { console.log(1); console.error(2); alert(3); alert(); return 'PROXY $A'; }`,
    yes,
  ],
  // Functions that are passed on
  [
    'isInNet in a callback',
    choosing(`['10.0.0.0'].some(function (net) { return isInNet('10.1.2.3', net, '255.0.0.0'); })`),
    yes,
  ],
  [
    'isInNet by another name',
    `var inNet = isInNet;\n${choosing(`inNet('10.1.2.3', '10.0.0.0', '255.0.0.0')`)}`,
    yes,
  ],
  [
    'isInNet by another name, outside',
    `var inNet = isInNet;\n${choosing(`inNet('11.1.2.3', '10.0.0.0', '255.0.0.0')`)}`,
    no,
  ],
  ['dnsResolve as a callback', choosing(`['box.corp.test'].map(dnsResolve)[0] === '10.1.2.3'`), yes],
  ['dnsResolve by call()', choosing(`dnsResolve.call(null, 'box.corp.test') === '10.1.2.3'`), yes],
  ['dnsResolve by its name', choosing(`this['dns' + 'Resolve']('box.corp.test') === '10.1.2.3'`), yes],
  [
    'dnsResolve in a getter',
    choosing(`({ get address() { return dnsResolve('box.corp.test'); } }).address === '10.1.2.3'`),
    yes,
  ],
  [
    'dnsResolve in a constructor',
    `function Host(name) { this.address = dnsResolve(name); }\n${choosing(`new Host('box.corp.test').address === '10.1.2.3'`)}`,
    yes,
  ],
  [
    'dnsResolve at its top',
    `var address = dnsResolve('box.corp.test');\n${choosing(`address === '10.1.2.3'`)}`,
    yes,
  ],
  ['dnsResolve in eval()', choosing(`eval("dnsResolve('box.corp.test')") === '10.1.2.3'`), yes],
  [
    'dnsResolve in new Function()',
    choosing(`new Function("return dnsResolve('box.corp.test')")() === '10.1.2.3'`),
    yes,
  ],
  ['dnsResolve in replace()', choosing(`'box.corp.test'.replace(/.+/, dnsResolve) === '10.1.2.3'`), yes],
  [
    'dnsResolve in toString()',
    choosing(`'' + { toString: function () { return dnsResolve('box.corp.test'); } } === '10.1.2.3'`),
    yes,
  ],
  ['myIpAddress().split()', choosing(`myIpAddress().split('.').length === 4`), yes],
  ['myIpAddress in a table', choosing(`({ mine: myIpAddress }).mine() === myIpAddress()`), yes],
  [
    'a sort by dnsResolve',
    choosing(
      `['box.corp.test', 'two.corp.test'].sort(function (a, b) { return dnsResolve(a) < dnsResolve(b) ? 1 : -1; })[0] === 'two.corp.test'`,
    ),
    yes,
  ],
  [
    'a function of its own in place of dnsResolve',
    `function dnsResolve() { return '10.9.9.9'; }\n${choosing(`isInNet('nowhere', '10.9.0.0', '255.255.0.0')`)}`,
    yes,
  ],
  [
    'a function of its own in place of isInNet',
    `function isInNet() { return true; }\n${choosing(`isInNet('1.1.1.1', '2.2.2.2', '255.255.255.255')`)}`,
    yes,
  ],
  // Names and addresses
  ['isPlainHostName, plain', choosing(`isPlainHostName('intranet')`), yes],
  ['isPlainHostName, with a domain', choosing('isPlainHostName(host)'), no],
  ['isPlainHostName of ::1', choosing(`isPlainHostName('::1')`), no],
  ['isPlainHostName of a number', choosing(`isPlainHostName('1234')`), no],
  ['isPlainHostName without text', choosing('isPlainHostName(7)'), 'direct'],
  ['dnsDomainIs', choosing(`dnsDomainIs(host, '.example')`), yes],
  ['dnsDomainIs, longer', choosing(`dnsDomainIs(host, 'www.gw.example')`), no],
  ['dnsDomainIs in upper case', choosing(`dnsDomainIs(host, '.EXAMPLE')`), no],
  ['dnsDomainIs without a domain', choosing('dnsDomainIs(host)'), 'direct'],
  ['dnsDomainLevels', choosing('dnsDomainLevels(host) === 1'), yes],
  [
    'localHostOrDomainIs',
    choosing(`localHostOrDomainIs('www', 'www.corp.test') && localHostOrDomainIs(host, host)`),
    yes,
  ],
  ['localHostOrDomainIs, another domain', choosing(`localHostOrDomainIs('www.b', 'www.corp.test')`), no],
  ['isResolvable', choosing(`isResolvable('box.corp.test')`), yes],
  ['isResolvable, not', choosing(`isResolvable('nowhere.invalid')`), no],
  ['dnsResolve of a name with IPv6 only', choosing(`dnsResolve('six.corp.test') === null`), yes],
  ['dnsResolve of an address', choosing(`dnsResolve('192.0.2.9') === '192.0.2.9'`), yes],
  ['dnsResolve of an IPv6 address', choosing(`dnsResolve('::1') === null`), yes],
  [
    'dnsResolve without a name',
    choosing(`dnsResolve() === null && dnsResolve('') === null && dnsResolve(7) === null`),
    yes,
  ],
  ['isInNet of a name', choosing(`isInNet('box.corp.test', '10.0.0.0', '255.0.0.0')`), yes],
  ['isInNet with a mask that has holes', choosing(`isInNet('10.7.2.3', '10.0.2.0', '255.0.255.0')`), yes],
  ['isInNet without a mask', choosing(`isInNet('10.1.2.3', '10.0.0.0')`), no],
  ['isInNet with a bad pattern', choosing(`isInNet('10.1.2.3', '10.0.0', '255.0.0.0')`), no],
  ['convert_addr', choosing(`convert_addr('10.1.2.3') === 167838211 && convert_addr('255.0.0.1') < 0`), yes],
  ['isValidIpAddress', choosing(`isValidIpAddress('10.1.2.3') && !isValidIpAddress('10.1.2.300')`), yes],
  [
    'dnsResolveEx',
    choosing(`dnsResolveEx('six.corp.test') === '2001:db8::7' && dnsResolveEx('nowhere.invalid') === ''`),
    yes,
  ],
  ['isResolvableEx', choosing(`isResolvableEx('six.corp.test')`), yes],
  [
    'isInNetEx',
    choosing(
      `isInNetEx('2001:db8::7', '2001:db8::/32') && isInNetEx('10.1.2.3', '10.0.0.0/8') && !isInNetEx('box.corp.test', '10.0.0.0/8')`,
    ),
    yes,
  ],
  [
    'isInNetEx across versions',
    choosing(
      `isInNetEx('::ffff:10.1.2.3', '10.0.0.0/8') && isInNetEx('10.1.2.3', '::/0') && !isInNetEx('10.1.2.3', '10.0.0.0/33')`,
    ),
    yes,
  ],
  [
    'sortIpAddressList',
    choosing(
      `sortIpAddressList('10.2.3.9;::9; 127.0.0.1;::1') === '::1;::9;10.2.3.9;127.0.0.1' && sortIpAddressList('a') === false`,
    ),
    yes,
  ],
  ['myIpAddressEx', choosing(`myIpAddressEx().split(';')[0] === myIpAddress()`), yes],
  // Patterns
  ['shExpMatch of a URL', choosing(`shExpMatch(url, 'https://*.example:*/*')`), yes],
  ['shExpMatch of a whole name only', choosing(`shExpMatch(host, 'gw')`), no],
  ['shExpMatch with ?', choosing(`shExpMatch(host, 'g?.example')`), yes],
  ['shExpMatch with a dot', choosing(`shExpMatch('gwxexample', 'gw.example')`), no],
  ['shExpMatch with a choice', choosing(`shExpMatch(host, '(ftp|gw).*')`), yes],
  ['shExpMatch with a bad pattern', choosing(`shExpMatch(host, '[')`), 'direct'],
  ['shExpMatch of null', choosing(`shExpMatch(null, 'n*')`), yes],
  // Times: 2026-06-17 was a Wednesday.
  ['weekdayRange, one day', at('2026, 5, 17, 12', `weekdayRange('WED') && !weekdayRange('THU')`), yes],
  [
    'weekdayRange over the weekend',
    at('2026, 5, 17, 12', `weekdayRange('FRI', 'WED') && !weekdayRange('THU', 'TUE')`),
    yes,
  ],
  ['weekdayRange in lower case', at('2026, 5, 17, 12', `weekdayRange('wed')`), no],
  ['weekdayRange in GMT', at('Real.UTC(2026, 5, 17, 12)', `weekdayRange('WED', 'GMT')`), yes],
  [
    'dateRange of years',
    at('2026, 5, 17, 12', 'dateRange(2000, 2099) && dateRange(2026) && !dateRange(2027)'),
    yes,
  ],
  [
    'dateRange of days',
    at('2026, 5, 17, 12', 'dateRange(17) && dateRange(10, 20) && !dateRange(18, 20)'),
    yes,
  ],
  [
    'dateRange of months',
    at(
      '2026, 5, 17, 12',
      `dateRange('JUN') && dateRange('MAY', 'JUL') && dateRange('NOV', 'JUN') && !dateRange('JUL', 'MAY')`,
    ),
    yes,
  ],
  [
    'dateRange of days with months',
    at(
      '2026, 5, 17, 12',
      `dateRange(1, 'JUN', 17, 'JUN') && !dateRange(18, 'JUN', 1, 'DEC') && dateRange(24, 'DEC', 17, 'JUN')`,
    ),
    yes,
  ],
  [
    'dateRange of months with years',
    at('2026, 5, 17, 12', `dateRange('OCT', 2025, 'MAR', 2027) && !dateRange('OCT', 2024, 'MAR', 2026)`),
    yes,
  ],
  [
    'dateRange of whole dates',
    at(
      '2026, 5, 17, 12',
      `dateRange(1, 'JAN', 2020, 31, 'DEC', 2030) && !dateRange(1, 'JAN', 2020, 16, 'JUN', 2026)`,
    ),
    yes,
  ],
  ['dateRange of one whole date', at('2026, 5, 17, 12', `dateRange(17, 'JUN', 2026)`), yes],
  [
    'dateRange in GMT',
    at(
      'Real.UTC(2026, 5, 17, 23, 30)',
      `dateRange(17, 'GMT') && dateRange(17, 17, 'GMT') && dateRange('JUN', 'JUN', 'GMT')`,
    ),
    yes,
  ],
  ['dateRange of nothing', at('2026, 5, 17, 12', `dateRange() || dateRange('XXX')`), no],
  ['timeRange of an hour', at('2026, 5, 17, 12, 30, 15', 'timeRange(12) && !timeRange(13)'), yes],
  ['timeRange of hours', at('2026, 5, 17, 12, 30, 15', 'timeRange(8, 12) && !timeRange(13, 20)'), yes],
  ['timeRange of hours over midnight', at('2026, 5, 17, 23, 30', 'timeRange(22, 6)'), no],
  [
    'timeRange of minutes',
    at(
      '2026, 5, 17, 12, 30, 15',
      'timeRange(12, 30, 12, 30) && !timeRange(12, 31, 13, 0) && timeRange(22, 0, 12, 30)',
    ),
    yes,
  ],
  [
    'timeRange of seconds',
    at('2026, 5, 17, 12, 30, 15', 'timeRange(12, 30, 15, 12, 30, 15) && !timeRange(12, 30, 16, 13, 0, 0)'),
    yes,
  ],
  ['timeRange of three numbers', at('2026, 5, 17, 12, 30, 15', 'timeRange(12, 30, 15)'), 'direct'],
  [
    'timeRange in GMT',
    at('Real.UTC(2026, 5, 17, 12, 30)', `timeRange(12, 'GMT') && timeRange(12, 0, 12, 45, 'GMT')`),
    yes,
  ],
  // Results that are odd
  ['a line end in front', returning(String.raw`'\nPROXY $A'`), 'direct'],
  [
    'a letter that is not ASCII behind',
    returning(String.raw`'PROXY $A; PROXY b\u00fccher.example:1'`),
    'direct',
  ],
  ['an empty port before another', returning(`'PROXY 127.0.0.1:; PROXY $B'`), no],
  ['a plus before the port', returning(`'PROXY 127.0.0.1:+80; PROXY $B'`), no],
  ['HTTPS in lower case', returning(`'https $A'`), 'tls A'],
  ['a proxy whose address is one number', returning(`'PROXY 2130706433:' + '$A'.split(':')[1]`), yes],
  ['twenty that are no proxies before one', returning(`'PROXY;'.repeat(20) + 'PROXY $B'`), no],
  // Large ones, as programs write them
  [
    'a table of 900 KiB',
    `var t = {};\n${lines(20_000, (n) => `t["h${n}.corp.example.internal"] = "PROXY 10.0.${n & 255}.1:80";`)}\nt['gw.example'] = 'PROXY $A';\n${returning(`t[host] || 'DIRECT'`)}`,
    yes,
  ],
  [
    '10,000 patterns',
    `var patterns = [${lines(10_000, (n) => `"*.d${n}.corp.example",`)} "gw.*"];\n${choosing(`patterns.some(function (p) { return shExpMatch(host, p); })`)}`,
    yes,
  ],
  [
    '2,000 times else',
    `function FindProxyForURL(url, host) { ${lines(2000, (n) => `if (host == "d${n}.corp.example") { return "DIRECT"; } else`)} { return "PROXY $A"; } }`,
    yes,
  ],
  // Things of the language
  [
    'the groups of the last match',
    choosing(`/(g)(w)/.test(host) && RegExp.$1 + RegExp.$2 + RegExp.$9 === 'gw'`),
    yes,
  ],
  ['the last match', choosing(`host.match(/w/) && RegExp.lastMatch + RegExp.leftContext === 'wg'`), yes],
  ['the last match after shExpMatch', choosing(`shExpMatch(host, '(gw).*') && RegExp.$1 === 'gw'`), yes],
  [
    'an expression that remembers its place',
    `var gw = /gw/g; gw.test('gw');\n${choosing('gw.test(host)')}`,
    no,
  ],
  [
    'a generator',
    `function* proxies() { yield 'PROXY $B'; yield 'PROXY $A'; }\n${returning('[...proxies()][1]')}`,
    yes,
  ],
  ['JSON', `var table = JSON.parse('{"gw.example":"PROXY $A"}');\n${returning('table[host]')}`, yes],
  ['with', `var o = { p: 'PROXY $A' };\nfunction FindProxyForURL() { with (o) { return p; } }`, yes],
  [
    'a promise before it',
    `var p = 'PROXY $B'; Promise.resolve().then(function () { p = 'PROXY $A'; });\n${returning('p')}`,
    yes,
  ],
  ['a console of its own', `let console = 1;\n${returning(`'PROXY $A'`)}`, yes],
  ['all of console', choosing(`console.dir(1) === undefined && console.assert(true) === undefined`), yes],
  [
    'a method of arrays of its own',
    `Array.prototype.has = function (x) { return this.indexOf(x) >= 0; };\n${choosing(`['gw.example'].has(host) && weekdayRange('SUN', 'SAT')`)}`,
    yes,
  ],
  [
    'frozen prototypes',
    `Object.freeze(Object.prototype); Object.freeze(Array.prototype);\n${choosing(`isInNet('10.1.2.3', '10.0.0.0', '255.0.0.0')`)}`,
    yes,
  ],
  [
    'dnsResolve in try and catch',
    `function FindProxyForURL() { try { return dnsResolve('nowhere.invalid').indexOf('10.') ? 'PROXY $B' : 'PROXY $B'; } catch (e) { return 'PROXY $A'; } }`,
    yes,
  ],
  // Odd arguments
  ['dnsDomainIs of a String object', choosing(`dnsDomainIs(host, new String('.example'))`), yes],
  ['localHostOrDomainIs of a list', choosing(`localHostOrDomainIs('gw', ['gw.example'])`), no],
  ['localHostOrDomainIs of a number', choosing(`localHostOrDomainIs(7, '7')`), yes],
  [
    'isInNet with a dnsResolve that answers undefined',
    `function dnsResolve() {}\n${choosing(`isInNet('x', '10.0.0.0', '255.0.0.0') === false`)}`,
    yes,
  ],
  ['isInNet of a number', choosing(`isInNet(10, '0.0.0.0', '0.0.0.0')`), no],
  [
    'dnsResolve of a short address',
    choosing(`dnsResolve('10.1') === '10.0.0.1' && dnsResolve('0x7f000001') === '127.0.0.1'`),
    yes,
  ],
  ['dnsResolve below localhost', choosing(`dnsResolve('foo.localhost') === '127.0.0.1'`), yes],
  ['dnsResolveEx of localhost', choosing(`dnsResolveEx('localhost') === '::1;127.0.0.1'`), yes],
  [
    'dnsResolveEx of a long address',
    choosing(`dnsResolveEx('2001:0db8:0:0:0:0:0:1') === '2001:db8::1'`),
    yes,
  ],
  [
    'a hundred names that are not there',
    choosing(
      `(function () { for (var i = 0; i < 100; i++) dnsResolve('no' + i + '.invalid'); return dnsResolve('box.corp.test') === '10.1.2.3'; })()`,
    ),
    no,
  ],
  ['dateRange of a year as text', at('2026, 5, 17, 12', `dateRange('2026') && dateRange('17')`), yes],
  ['dateRange over the end of the month', at('2026, 5, 3, 12', 'dateRange(25, 5)'), yes],
  ['timeRange of text', at('2026, 5, 17, 12', `timeRange('8', '18')`), yes],
];

/** PAC files as people write them, and odd ones, with the answers of Chromium 156. */
export const pacTable: readonly PacCase[] = rows.map(([name, file, answer]) => ({ name, file, answer }));
