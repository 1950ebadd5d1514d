import { arch, platform, release } from 'node:os';
import { formatFinding } from '../../diagnostics/render.ts';
import type { Finding } from '../../diagnostics/finding.ts';
import { formatTarget } from '../../protocol/target.ts';
import type { Target } from '../../protocol/target.ts';
import { sanitize } from '../errors/report.ts';
import { version } from '../os/version.ts';

/** The content of a report. */
export interface ReportFacts {
  readonly gateway: URL;
  readonly target?: Target | undefined;
  readonly findings: readonly Finding[];
  readonly words: string;
  /** This user's home: its path has the user's name in it. */
  readonly home: string;
}

const preface = `A report of "postern doctor", to share with people who help you.
It contains: names and addresses of the gateway, the proxy and the requested host, the issuer of the certificate,
responses, and versions of the programs.
It contains no tokens, passwords or cookies, and neither your user name nor the list of hosts that you can reach.
`;

/** A report for others. It cannot contain secrets: findings hold none, and personal data is left out. */
export function formatReport({ gateway, target, findings, words, home }: ReportFacts): string {
  const about = [
    `time      ${new Date().toISOString()}`,
    `postern   ${version}`,
    `Node.js   ${process.version}`,
    `system    ${platform()} ${release()} ${arch()}`,
    `gateway   ${gateway.href}`,
    `host      ${target === undefined ? 'none' : formatTarget(target)}`,
  ];
  const lines = findings.map((finding) => formatFinding(forOthers(finding), style)).join('');
  const text = `${preface}\n${about.join('\n')}\n\n${lines}\n${words}\n`;
  return text
    .split('\n')
    .map((line) => withoutHome(line, home))
    .join('\n');
}

const style = { isUnicode: true, isColored: false };

function forOthers({ shared, ...finding }: Finding): Finding {
  return { ...finding, what: shared === undefined ? finding.what : sanitize(shared) };
}

function withoutHome(line: string, home: string): string {
  return home.length > 1 ? line.replaceAll(home, '~') : line;
}
