import { chromium } from 'playwright-core';
import type { Browser } from 'playwright-core';
import { findProgram } from '../test/e2e/support/needs.ts';
import type { Effort, Figure, Row } from './support/figure.ts';
import { startGateway } from './support/gateway.ts';

type PageRow = Row<'kib' | 'requests'>;

/** What a browser without anything in its cache gets from the gateway, heads and redirections and all. */
export const pages = {
  name: 'pages',
  title: 'pages, with everything they load',
  columns: { kib: ['KiB', 1], requests: ['requests', 0] },
  measure: run,
} as const satisfies Figure<keyof PageRow['values']>;

async function run({ folder }: Effort): Promise<readonly PageRow[]> {
  const executablePath = findProgram('chromium');
  if (executablePath === undefined) {
    console.error('SKIPPED: pages: this machine lacks chromium');
    return [];
  }
  // Nothing is dialled here.
  const gateway = await startGateway(folder, 9);
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
  try {
    const url = `http://127.0.0.1:${gateway.port}/ssh/`;
    return [
      await weigh(browser, 'the sign-in page', { url: `${url}access`, heading: 'Sign in' }),
      await weigh(browser, 'the start page', { url, heading: undefined }),
    ];
  } finally {
    await browser.close();
    gateway.child.kill('SIGKILL');
  }
}

/** Opens a page in a fresh context and adds up what came over the wire. */
async function weigh(
  browser: Browser,
  what: string,
  { url, heading }: { readonly url: string; readonly heading: string | undefined },
): Promise<PageRow> {
  const context = await browser.newContext();
  try {
    const page = await context.newPage();
    const network = await context.newCDPSession(page);
    const sizes: number[] = [];
    await network.send('Network.enable');
    network.on('Network.loadingFinished', ({ encodedDataLength }) => sizes.push(encodedDataLength));
    // A redirection has no end of its own.
    network.on('Network.requestWillBeSent', ({ redirectResponse }) => {
      if (redirectResponse !== undefined) sizes.push(redirectResponse.encodedDataLength);
    });
    await page.goto(url, { waitUntil: 'networkidle' });
    if (heading !== undefined) await page.getByRole('heading', { name: heading, exact: true }).waitFor();
    return {
      what,
      values: { kib: sizes.reduce((sum, size) => sum + size, 0) / 1024, requests: sizes.length },
    };
  } finally {
    await context.close();
  }
}
