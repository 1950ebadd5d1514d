import { getCACertificates } from 'node:tls';
import { pemCertificates } from '../../../base/pem.ts';
import { readSmall } from '../../os/files.ts';
import { runCommand } from '../system/run-command.ts';
import { isCertificate } from './tls.ts';

const maxBundleBytes = 4 * 1024 * 1024;

/** The CA bundles of the distributions; the first one that exists is used. */
const bundles = [
  '/etc/ssl/certs/ca-certificates.crt', // Debian, Ubuntu, Arch, Alpine
  '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem', // Fedora, RHEL
  '/etc/pki/tls/certs/ca-bundle.crt', // older of these
  '/etc/ssl/ca-bundle.pem', // SUSE
  '/etc/ssl/cert.pem', // Alpine, the BSDs
] as const;

let known: Promise<readonly string[]> | undefined;

/** The certificates that this system trusts, in PEM; `file` is `SSL_CERT_FILE`. Never throws. */
export async function systemAuthorities(
  file: string | undefined,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const found = await (known ??= read(file, signal));
  // An administrator can install one while `postern listen` runs.
  if (found.length === 0) known = undefined;
  return found;
}

async function read(file: string | undefined, signal: AbortSignal): Promise<readonly string[]> {
  if (process.platform !== 'darwin' && process.platform !== 'win32') {
    for (const path of file === undefined ? bundles : [file, ...bundles]) {
      const found = inFile(path);
      if (found.length > 0) return found;
    }
  }
  // Since Node.js 22.15 and 23.9.
  const fromNode = (getCACertificates as typeof getCACertificates | undefined)?.('system') ?? [];
  if (fromNode.length > 0 || process.platform !== 'darwin') return [...new Set(fromNode)];
  return certificatesIn((await runCommand(keychains, signal)) ?? '');
}

/** The authorities added by administrators and the user; those of Apple are in Node.js as well. */
const keychains = ['/usr/bin/security', 'find-certificate', '-a', '-p'] as const;

function inFile(path: string): readonly string[] {
  try {
    return certificatesIn(readSmall(path, maxBundleBytes).bytes.toString('latin1'));
  } catch {
    return [];
  }
}

/** The certificates in a text, without those that cannot be parsed: one of them must not invalidate the rest. */
export function certificatesIn(text: string): readonly string[] {
  const all = pemCertificates(text);
  return [...new Set(all)].filter(isCertificate);
}
