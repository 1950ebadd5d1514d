import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import type { AddressInfo } from 'node:net';
import ssh2 from 'ssh2';
import type { ServerChannel } from 'ssh2';

/**
 * An SSH server for machines without sshd: it accepts one key, and runs commands and shells as its own user. Listens
 * on loopback; resolves to the port.
 */
export async function startDemoSshServer(hostPrivateKey: string, userPublicKey: string): Promise<number> {
  const allowed = ssh2.utils.parseKey(userPublicKey);
  if (allowed instanceof Error) throw allowed;
  const server = new ssh2.Server({ hostKeys: [hostPrivateKey] }, (client) => {
    client.on('authentication', (context) => {
      if (context.method !== 'publickey') return context.reject(['publickey']);
      const isKey = context.key.algo === allowed.type && context.key.data.equals(allowed.getPublicSSH());
      const isSigned =
        !context.signature || allowed.verify(context.blob!, context.signature, context.hashAlgo);
      if (isKey && isSigned) context.accept();
      else context.reject();
    });
    client.on('session', (acceptSession) => {
      const session = acceptSession();
      session.on('pty', (accept) => accept?.());
      session.on('exec', (accept, _reject, { command }) => connect(accept(), spawn('sh', ['-c', command])));
      // `script` gives the shell a terminal, which Node.js cannot create.
      session.on('shell', (accept) =>
        connect(accept(), spawn('script', ['-qfc', process.env.SHELL ?? 'sh', '/dev/null'])),
      );
    });
    client.on('error', () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

function connect(channel: ServerChannel, child: ChildProcess): void {
  channel.pipe(child.stdin!);
  child.stdout!.pipe(channel, { end: false });
  child.stderr!.pipe(channel.stderr, { end: false });
  child.on('error', () => channel.exit(127));
  child.on('close', (code, signal) => {
    if (signal) channel.exit(signal);
    else channel.exit(code ?? 1);
    channel.end();
  });
}
