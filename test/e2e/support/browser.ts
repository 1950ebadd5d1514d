import { chromium, type Browser } from 'playwright-core';
import { findProgram } from './needs.ts';
import type { Scratch } from './scratch.ts';

/** For any Chromium of the tests: as root, without a display, and without requests of its own. */
export const browserFlags: readonly string[] = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Starts Chromium without a window; it is closed at the end of the test file. */
export async function startBrowser(scratch: Scratch): Promise<Browser> {
  const browser = await chromium.launch({
    executablePath: findProgram('chromium')!,
    args: [...browserFlags],
  });
  scratch.onEnd(() => browser.close());
  return browser;
}
