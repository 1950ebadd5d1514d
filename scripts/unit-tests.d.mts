export function unitTests(folder: string): readonly string[];
