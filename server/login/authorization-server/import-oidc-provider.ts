/** The package, as it is loaded at need: commands that sign nobody in start without it. */
export type OidcProvider = typeof import('oidc-provider');

/**
 * Loads the package. It says on the console what it thinks of Node versions that are not LTS yet; our own floor and tests
 * decide that, and the log of the gateway has one format.
 */
export async function importOidcProvider(): Promise<OidcProvider> {
  const { warn } = console;
  console.warn = () => {};
  try {
    return await import('oidc-provider');
  } finally {
    console.warn = warn;
  }
}
