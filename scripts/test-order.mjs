/**
 * The test files that take longest, longest first: what starts last must be short, or one core is idle at the end. A file
 * that is missing here only makes a run a little longer.
 */
export const longest = [
  'test/e2e/resume/network.test.ts',
  'test/e2e/resume/sleep.test.ts',
  'test/e2e/web-server/nginx.test.ts',
  'test/e2e/web-server/haproxy.test.ts',
  'test/e2e/web-server/caddy.test.ts',
  'test/e2e/web-server/direct.test.ts',
  'test/server/cluster/takeover.test.ts',
  'test/server/cluster/workers.test.ts',
  'test/e2e/web-server/apache.test.ts',
  'test/e2e/egress/squid.test.ts',
  'test/e2e/egress/corporate-network.test.ts',
  'test/e2e/web-server/gateway-doctor.test.ts',
  'test/e2e/egress/plain-http.test.ts',
  'test/e2e/programs/doctor.test.ts',
  'test/e2e/resume/endings.test.ts',
  'test/server/commands/serve.test.ts',
  'test/client/login/terminal.test.ts',
];

/** Those that run real programs mostly wait, and take longer than unit tests. */
const programFolders = ['test/e2e/', 'test/hostile/'];

/** Sorts paths that are relative to the root of the project by the time that they are expected to take. */
export function longestFirst(files) {
  return files.toSorted((one, other) => rank(one) - rank(other) || (one < other ? -1 : 1));
}

function rank(file) {
  const at = longest.indexOf(file);
  if (at !== -1) return at;
  return longest.length + (programFolders.some((folder) => file.startsWith(folder)) ? 0 : 1);
}
