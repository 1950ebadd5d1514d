export const longest: readonly string[];
export function longestFirst(files: readonly string[]): string[];
