const begin = '-----BEGIN CERTIFICATE-----';
const end = '-----END CERTIFICATE-----';

/**
 * The certificates in `text`, each from its first dash to its last (RFC 7468 section 5), whatever stands between them.
 * What is inside is not looked at, except that it has no dash. Takes time in proportion to the length of the text.
 */
export function pemCertificates(text: string): readonly string[] {
  const found: string[] = [];
  for (let at = text.indexOf(begin); at !== -1;) {
    const body = at + begin.length;
    const dash = text.indexOf('-', body);
    if (dash === -1) break;
    const isWhole = dash > body && text.startsWith(end, dash);
    const next = isWhole ? dash + end.length : dash;
    if (isWhole) found.push(text.slice(at, next));
    at = text.indexOf(begin, next);
  }
  return found;
}
