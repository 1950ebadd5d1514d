import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { replaceFile } from '../../../client/os/files.ts';
import { clientBundle, packageDirectory } from './needs.ts';
import { run, within, type Environment, type Outcome, type RunOptions } from './process.ts';
import type { Scratch } from './scratch.ts';
import type { Sshd } from './sshd.ts';

/** The name by which every test requests the sshd. */
export const box = 'box';

export interface SshPlan {
  readonly sshd: Sshd;
  /** The ProxyCommand, with `%h` and `%p` in it. */
  readonly proxyCommand: string;
  /** The environment of ssh and its ProxyCommand. */
  readonly env: Environment;
  /** Distinguishes its files from those of other plans of the test file. */
  readonly name: string;
  /** The network namespace it runs in; absent: that of the tests. */
  readonly namespace?: string | undefined;
}

/** The real ssh and the programs that use it, with a configuration and known hosts of their own. */
export interface Ssh {
  readonly configFile: string;
  readonly env: Environment;
  /** Runs `ssh … box …`. */
  run(args: readonly string[], options?: RunOptions): Promise<Outcome>;
  /** Runs any program in this environment: scp, rsync, git. */
  command(argv: readonly string[], options?: RunOptions): Promise<Outcome>;
}

/** Host keys are checked strictly: `box` must have the key of the sshd, whatever stands between. */
export function prepareSsh(scratch: Scratch, plan: SshPlan): Ssh {
  const { sshd, name, namespace } = plan;
  const knownHosts = scratch.path(`${name}.known_hosts`);
  // In one step each: an ssh of another test may be reading them.
  replaceFile(knownHosts, `${box} ${sshd.hostKey}\n`, 0o600);
  const configFile = scratch.path(`${name}.ssh_config`);
  replaceFile(
    configFile,
    `Host ${box}
  User ${sshd.user}
  Port 22
  ProxyCommand ${plan.proxyCommand}
  IdentityFile ${sshd.identityFile}
  IdentitiesOnly yes
  UserKnownHostsFile ${knownHosts}
  GlobalKnownHostsFile none
  StrictHostKeyChecking yes
  BatchMode yes
  LogLevel ERROR
`,
    0o600,
  );
  const env = { ...isolatedEnvironment(scratch), ...plan.env };
  return {
    configFile,
    env,
    run: (args, options) =>
      run(within(namespace, ['ssh', '-F', configFile, ...args]), {
        ...options,
        env: { ...env, ...options?.env },
      }),
    command: (argv, options) =>
      run(within(namespace, argv), { ...options, env: { ...env, ...options?.env } }),
  };
}

/** The ProxyCommand of the client as it is shipped; `POSTERN_E2E_CLIENT_NODE` runs it on another Node. */
export function clientCommand(...args: readonly string[]): readonly string[] {
  return [
    process.env['POSTERN_E2E_CLIENT_NODE'] ?? process.execPath,
    join(packageDirectory, clientBundle),
    ...args,
  ];
}

/** No file or setting of the person who runs the tests reaches the programs under test. */
function isolatedEnvironment(scratch: Scratch): Environment {
  const home = scratch.path('home');
  mkdirSync(home, { recursive: true });
  return {
    ...Object.fromEntries(foreign.map((name) => [name, undefined])),
    HOME: home,
    XDG_CONFIG_HOME: `${home}/.config`,
    XDG_STATE_HOME: `${home}/.local/state`,
    XDG_CACHE_HOME: `${home}/.cache`,
    XDG_RUNTIME_DIR: `${home}/.run`,
    PATH: '/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin',
    LC_ALL: 'C.UTF-8',
    TERM: 'xterm',
    GIT_CONFIG_NOSYSTEM: '1',
    HGRCPATH: '',
  };
}

const foreign = (
  'http_proxy https_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY ' +
  'POSTERN_GATEWAY POSTERN_TOKEN POSTERN_TOKEN_FILE POSTERN_CA_FILE ' +
  'SSH_AUTH_SOCK SSH_ASKPASS NODE_OPTIONS NODE_EXTRA_CA_CERTS NODE_TEST_CONTEXT'
).split(' ');
