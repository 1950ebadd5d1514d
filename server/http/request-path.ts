import { TunnelError } from '../../protocol/errors.ts';

/** A request target, split where its query begins; nothing is decoded. */
export interface RequestTarget {
  readonly path: string;
  /** Without the question mark; empty when there is none. */
  readonly query: string;
}

/**
 * Reads the target of a request other than CONNECT: the one reading of it, before any guard or router has another. A
 * complete URL (RFC 9112 section 3.2.2) is read as its path and query. Throws `REQUEST_INVALID` for what no target may
 * contain (RFC 9112 section 3.2, RFC 3986 section 3.3): a fragment, a backslash, a space, a control or non-ASCII character.
 */
export function readRequestTarget(url: string): RequestTarget {
  // Without the `#` that no client sends: routers disagree about what comes after it.
  if (!/^[!-~]+$/.test(url) || /[#\\"<>^`{|}]/.test(url.split('?', 1)[0]!) || url.includes('#'))
    throw new TunnelError('REQUEST_INVALID', 'this is not a valid request target');
  const [, origin = '', rest = ''] = /^(https?:\/\/[^/?]*)?(.*)$/i.exec(url) ?? [];
  const target = origin !== '' && !rest.startsWith('/') ? `/${rest}` : rest;
  const queryAt = target.indexOf('?');
  return queryAt === -1
    ? { path: target, query: '' }
    : { path: target.slice(0, queryAt), query: target.slice(queryAt + 1) };
}

/** The target as a request line has it. */
export function formatRequestTarget({ path, query }: RequestTarget): string {
  return query === '' ? path : `${path}?${query}`;
}

/**
 * Whether `path` is the pattern of a route (`/a/:name`, `/a/*`) spelt exactly: letter for letter outside of its parameters,
 * which are one segment of unreserved characters each (RFC 3986 section 2.3), and of what its asterisk stands for. Routers also take other spellings: another
 * case, a slash at the end, encoded letters, doubled slashes.
 */
export function isExactPath(pattern: string, path: string): boolean {
  const isPrefix = pattern.endsWith('/*');
  const wanted = pattern.split('/').slice(0, isPrefix ? -1 : undefined);
  const given = path.split('/');
  return (
    (isPrefix ? wanted.length < given.length : wanted.length === given.length) &&
    wanted.every((segment, at) =>
      segment.startsWith(':') ? isPlainSegment(given[at]!) : segment === given[at],
    )
  );
}

function isPlainSegment(segment: string): boolean {
  return /^[\w.~-]+$/.test(segment) && segment !== '.' && segment !== '..';
}
