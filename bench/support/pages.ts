import type { Figure } from './figure.ts';
import type { Run } from './results.ts';
export async function writePages(_run: Run, _figures: readonly Figure[]): Promise<void> {}
