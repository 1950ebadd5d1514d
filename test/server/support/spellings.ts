const hex = (letter: string): string => `%${letter.charCodeAt(0).toString(16)}`;

/** Spellings of a path, some of which one reader or another takes for the path itself. The path comes first. */
export function spellings(path: string, host = 'gw.example'): readonly string[] {
  const segments = path.split('/').slice(1);
  const letters = [...path.matchAll(/[a-z]/g)].map(({ index }) => index);
  const at = (index: number, change: (letter: string) => string): string =>
    path.slice(0, index) + change(path[index]!) + path.slice(index + 1);
  const eachSlash = (text: string): readonly string[] =>
    [...path.matchAll(/\//g)].map(({ index }) => path.slice(0, index) + text + path.slice(index + 1));
  const last = letters.at(-1)!;
  const some = [letters[0]!, letters[Math.floor(letters.length / 2)]!, last];
  return [
    path,
    // Case, also by letters that become ASCII when they are folded.
    path.toUpperCase(),
    ...some.map((index) => at(index, (letter) => letter.toUpperCase())),
    path.replace('k', '\u212a'),
    path.replace('s', '\u017f'),
    path.replace('k', '%e2%84%aa'),
    path.replace('s', '%C5%BF'),
    path.replace(/[a-z]$/, (letter) => String.fromCodePoint(letter.codePointAt(0)! + 0xfee0)),
    // Slashes.
    ...['/', '//', '/.', '/./', '/x/..', '/..', '%2f', '%2F', '%5c', '\\', '/%2e', '/%2e%2e'].map(
      (end) => path + end,
    ),
    ...[
      '//',
      '/./',
      '/x/../',
      '/%2e/',
      '/x/%2e%2e/',
      '%2f',
      '%2F',
      '\\',
      '%5c',
      '/\\',
      '/;/',
      '/..;/',
    ].flatMap(eachSlash),
    `.${path}`,
    path.slice(1),
    // Encoded letters, once and twice, and wrong ones.
    ...some.flatMap((index) => [
      at(index, hex),
      at(index, (letter) => hex(letter).toUpperCase()),
      at(index, (letter) => `%25${hex(letter).slice(1)}`),
      at(index, (letter) => `%u00${hex(letter).slice(1)}`),
      at(index, (letter) => `%c1%${(letter.charCodeAt(0) + 0x40).toString(16)}`),
      at(index, (letter) => `${letter}%`),
      at(index, (letter) => `${letter}%0`),
    ]),
    path.replaceAll(/[a-z]/g, hex),
    // Characters after it, and in it.
    ...[';', ';x', ';jsessionid=1', ':', '.', '.json', '*', '+', '~', ',', '&a=b', '!', '@', '%'].map(
      (end) => path + end,
    ),
    ...['%00', '%0a', '%0d%0a', '%09', '%20', '%a0', '%ef%bb%bf', '%7f', '%3f', '%23', '%3b'].map(
      (end) => path + end,
    ),
    ...['\u00a0', '\ufeff', '\u00e9', '"', '<', '>', '^', '`', '{', '|', '}'].map((end) => path + end),
    ...segments.map(
      (_, index) => `/${segments.map((each, other) => (other === index ? `${each};v=1` : each)).join('/')}`,
    ),
    // A fragment, which no request has.
    ...['#', '#x', '#?x', '/#', '#/', '#//a@b', '//a#@b'].map((end) => path + end),
    // A complete URL, and what looks like one.
    `http://${host}${path}`,
    `HTTP://${host.toUpperCase()}${path}`,
    `https://user:secret@other.example:1${path}`,
    `http://${host}//${path}`,
    `http:/${path}`,
    `ftp://${host}${path}`,
    `//${host}${path}`,
    `/${path}`,
    `/\\${host}${path}`,
    // A query.
    ...['?', '?x', '??', '?#', '?a=b?c', '?/', '?a[]=1&a[]=2', '?__proto__=x', '?%', '?%zz=%00'].map(
      (end) => path + end,
    ),
    `${path}?${'q'.repeat(6000)}`,
    `${path}/${'p'.repeat(6000)}`,
    `${path}/${'%2e'.repeat(600)}`,
    '*',
    '/',
    '//',
    '//a#@b',
    '/%',
    '/?',
  ];
}
