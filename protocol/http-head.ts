/**
 * A response head in wire format, up to the empty line (RFC 9112 section 2.1). Values are written as they are: throws
 * `TypeError` for a control character other than a tab, which could begin a line of its own.
 */
export function formatResponseHead(
  status: number,
  reason: string,
  headers: readonly (readonly [name: string, value: string])[],
): string {
  const lines = [`HTTP/1.1 ${status} ${reason}`, ...headers.map(([name, value]) => `${name}: ${value}`)];
  for (const line of lines) {
    // oxlint-disable-next-line no-control-regex
    if (/[\x00-\x08\x0a-\x1f\x7f]/.test(line)) throw new TypeError(`a control character in a header line`);
  }
  return `${lines.join('\r\n')}\r\n\r\n`;
}
