const maxCharacters = 300;

/**
 * Untrusted text for the log and the audit: its first 300 characters, without what stands before an `@` and without
 * anything in the form of a token. Tokens do end up in URLs, however often people are told that they must not.
 */
export function redact(text: string): string {
  return text
    .slice(0, maxCharacters)
    .replaceAll(/eyJ[\w-]{8,}[\w.-]*/g, '[token]')
    .replaceAll(/[^/@\s"]*@/g, '[secret]@');
}
