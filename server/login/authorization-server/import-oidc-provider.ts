/** The package, loaded on demand: commands that need no sign-in start without it. */
export type OidcProvider = typeof import('oidc-provider');

/**
 * Loads the package, without its warning on the console about Node versions that are not LTS yet: our own minimum version
 * and tests decide that, and the log of the gateway has one format.
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
