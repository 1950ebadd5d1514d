/** The first patched release of each line of Node.js that the gateway runs on (docs/security.md says why). */
const floors: Readonly<Record<number, readonly [minor: number, patch: number]>> = {
  22: [23, 2],
  24: [18, 1],
  26: [0, 0],
};

/** The reason why this Node.js is too old to face the internet, with what to install; undefined when it is not too old. */
export function nodeProblem(version = process.versions.node): string | undefined {
  const [major = 0, minor = 0, patch = 0] = version.split('.').map(Number);
  const floor = floors[major];
  const fresh = floor ? minor > floor[0] || (minor === floor[0] && patch >= floor[1]) : major > 26;
  if (fresh) return undefined;
  return `Node.js ${version} is too old for the gateway (security fixes): it needs 22.23.2, 24.18.1 or 26. Install Node.js 26: npm install --global node@26, or https://nodejs.org/download. The client also runs on 20.`;
}
