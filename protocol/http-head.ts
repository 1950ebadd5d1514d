/** A response head in wire format (RFC 9112 section 2.1). Throws `TypeError` for a control character in a line. */
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
