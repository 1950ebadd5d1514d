import { readFileSync, writeFileSync } from 'node:fs';
import { output } from './process.ts';
import type { Scratch } from './scratch.ts';

export interface Certificates {
  /** The authority that clients trust. */
  readonly authorityFile: string;
  readonly certificateFile: string;
  readonly keyFile: string;
  /** Certificate and key in one file, as HAProxy wants them. */
  readonly combinedFile: string;
}

/** A new authority and its certificate for gw.example, localhost and 127.0.0.1, for two days. */
export async function makeCertificates(scratch: Scratch): Promise<Certificates> {
  const [authorityFile, authorityKey] = [scratch.path('authority.pem'), scratch.path('authority.key')];
  const [certificateFile, keyFile] = [scratch.path('gw.example.pem'), scratch.path('gw.example.key')];
  const key = '-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2';
  await openssl(
    `req -x509 ${key} -subj /CN=postern-test -keyout ${authorityKey} -out ${authorityFile}
     -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign`,
  );
  await openssl(
    `req -x509 ${key} -subj /CN=gw.example -keyout ${keyFile} -out ${certificateFile}
     -CA ${authorityFile} -CAkey ${authorityKey}
     -addext basicConstraints=critical,CA:FALSE -addext extendedKeyUsage=serverAuth
     -addext subjectAltName=DNS:gw.example,DNS:localhost,IP:127.0.0.1,IP:::1`,
  );
  const combinedFile = scratch.path('gw.example.combined.pem');
  writeFileSync(combinedFile, Buffer.concat([readFileSync(certificateFile), readFileSync(keyFile)]), {
    mode: 0o600,
  });
  return { authorityFile, certificateFile, keyFile, combinedFile };
}

async function openssl(args: string): Promise<void> {
  await output(['openssl', ...args.split(/\s+/)]);
}
