import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { findProgram } from './needs.ts';
import { freePort, output, start, type Running } from './process.ts';
import type { Scratch } from './scratch.ts';

export interface Sshd {
  readonly port: number;
  readonly user: string;
  /** The private key that it lets in. */
  readonly identityFile: string;
  /** Its public host key as `type base64`. */
  readonly hostKey: string;
  readonly running: Running;
}

/** A real sshd on a loopback port, with a host key and a user key of its own; it lets in the user who runs the tests. */
export async function startSshd(scratch: Scratch): Promise<Sshd> {
  const [hostKeyFile, identityFile] = [scratch.path('host-key'), scratch.path('id')];
  await output(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', hostKeyFile]);
  await output(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', identityFile]);
  // Compiled into Debian's sshd, and only made by the start script of the service.
  if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
  const port = await freePort();
  // Not that of the person who runs the tests: what its .bashrc prints would be taken for what the commands print.
  const home = scratch.path('remote-home');
  mkdirSync(home, { recursive: true });
  const configFile = scratch.path('sshd_config');
  writeFileSync(
    configFile,
    `ListenAddress 127.0.0.1:${port}
HostKey ${hostKeyFile}
AuthorizedKeysFile ${identityFile}.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin yes
UseDNS no
PrintMotd no
PrintLastLog no
MaxStartups 100
MaxSessions 100
AllowTcpForwarding yes
SetEnv HOME=${home}
Subsystem sftp internal-sftp
`,
  );
  const running = await start(scratch, [findProgram('sshd')!, '-D', '-e', '-f', configFile], { port });
  const [type, key] = readFileSync(`${hostKeyFile}.pub`, 'utf8').split(' ');
  return { port, user: userInfo().username, identityFile, hostKey: `${type} ${key}`, running };
}
