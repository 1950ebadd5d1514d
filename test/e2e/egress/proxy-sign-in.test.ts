import assert from 'node:assert/strict';
import { appendFileSync, mkdirSync } from 'node:fs';
import { before, describe, it } from 'node:test';
import { addAlice, approve } from '../support/approve.ts';
import { needsNetwork, openNetwork, type Network } from '../support/network.ts';
import { clientBundle } from '../support/needs.ts';
import { output, run, within, type Environment, type Outcome } from '../support/process.ts';
import { isLong, makeFile, sha256OfFile, succeeded } from '../support/resume.ts';
import { openScratch } from '../support/scratch.ts';
import {
  clientWithKerberos,
  inEnvironment,
  proxyHost,
  startBasicSquid,
  startDigestSquid,
  startKdc,
  startKerberosSquid,
  startNtlmSquid,
  startTinyproxy,
  type Kdc,
  type SignInProxy,
} from '../support/sign-in-proxies.ts';
import { box, clientCommand, prepareSsh, type Ssh } from '../support/ssh.ts';
import { openTerminal } from '../support/terminal.ts';
import { openWorld, type World } from '../support/world.ts';

const programs =
  'ssh sshd ssh-keygen openssl script scp curl nginx squid tinyproxy ntlm_auth krb5kdc kdb5_util kadmin.local kinit g++ gnome-keyring-daemon secret-tool dbus-run-session'.split(
    ' ',
  );

const sizeMiB = isLong ? 100 : 10;

const allProxies = [
  'squid, Basic',
  'squid, Digest before Basic',
  'squid, NTLM',
  'squid, Negotiate',
  'tinyproxy, Basic',
] as const;

type ProxyName = (typeof allProxies)[number];

/** In a network where the proxies are all that can be reached, besides DNS and the KDC. */
describe('a corporate proxy that wants a sign-in', needsNetwork(clientBundle, ...programs), () => {
  const scratch = openScratch();
  let network: Network;
  let world: World;
  let kdc: Kdc;
  let kerberosClient: string;
  let proxies: Readonly<Record<ProxyName, SignInProxy>>;

  before(async () => {
    network = await openNetwork(scratch);
    const { address, client } = network;
    appendFileSync(`/etc/netns/${client}/hosts`, `${address} ${proxyHost}\n`);
    world = await openWorld(scratch, 'nginx', {
      host: 'gw.example',
      clientNamespace: client,
      settings: { signIn: { deviceFlow: true } },
    });
    const plan = { address, allowedPort: Number(new URL(world.url).port) };
    [kdc, kerberosClient] = await Promise.all([
      startKdc(scratch, { address, clientNamespace: client }),
      clientWithKerberos(scratch),
      addAlice(world),
    ]);
    const [basic, digest, ntlm, negotiate, tinyproxy] = await Promise.all([
      startBasicSquid(scratch, plan),
      startDigestSquid(scratch, plan),
      startNtlmSquid(scratch, plan),
      startKerberosSquid(scratch, plan, kdc),
      startTinyproxy(scratch, plan),
    ]);
    proxies = {
      'squid, Basic': basic,
      'squid, Digest before Basic': digest,
      'squid, NTLM': ntlm,
      'squid, Negotiate': negotiate,
      'tinyproxy, Basic': tinyproxy,
    };
    const ports = [53, kdc.port, ...Object.values(proxies).map(({ port }) => port)].join(', ');
    const wall = `table inet wall {
      chain in {
        type filter hook input priority -1;
        iifname cable tcp dport != { ${ports} } reject with tcp reset
        iifname cable udp dport != { 53, ${kdc.port} } drop
      }
    }`;
    await output(within(network.servers, ['nft', '-f', '-']), { input: wall });
  });

  /** The environment of the client on the way through one proxy, besides its gateway and token. */
  const through = (name: ProxyName, more: Environment = {}): Environment => {
    const { url, env } = proxies[name];
    return { ...world.env, HTTPS_PROXY: url, ...env, ...more };
  };
  const sshThrough = (env: Environment, name: string): Ssh =>
    prepareSsh(scratch, {
      sshd: world.sshd,
      env,
      name,
      namespace: network.client,
      proxyCommand: `${clientCommand()[0]} ${kerberosClient} connect %h %p`,
    });
  /** A request of the client that is no tunnel. */
  const ask = (env: Environment, client = kerberosClient): Promise<Outcome> => {
    const { env: isolated } = sshThrough(env, 'ask');
    const argv = within(network.client, [clientCommand()[0]!, client, 'hosts']);
    return run(argv, { env: isolated });
  };

  it('there is no other way out', async () => {
    const { code, stderr } = await ask(world.env);
    assert.equal(code, 69);
    assert.match(stderr.toString(), /\(GATEWAY_UNREACHABLE\)/);
  });

  // Each waits for the interval of the device flow.
  describe('login, and the list of allowed hosts', { concurrency: true }, () => {
    for (const name of allProxies) {
      it(`get through ${name}`, async () => {
        const { POSTERN_TOKEN_FILE, ...env } = through(name) as Record<string, string>;
        assert.ok(POSTERN_TOKEN_FILE);
        // Each client keeps its sign-in in a home of its own.
        const home = scratch.path(`home-${name.replaceAll(/\W+/g, '-')}`);
        mkdirSync(home);
        const own = {
          ...sshThrough(env, 'login').env,
          HOME: home,
          XDG_CONFIG_HOME: `${home}/config`,
          XDG_STATE_HOME: `${home}/state`,
          XDG_CACHE_HOME: `${home}/cache`,
        };
        const argv = [clientCommand()[0]!, kerberosClient, 'login', '--device'];
        const login = openTerminal(scratch, argv.join(' '), { env: own, namespace: network.client });
        await login.shows('type the code');
        const [, code] = /type the code ([A-Z-]+)/.exec(login.shown())!;
        await approve(world, code!);
        assert.equal(await login.ended, 0, login.shown());
        assert.match(login.shown(), /signed in as alice/);
        const hosts = within(network.client, [clientCommand()[0]!, kerberosClient, 'hosts']);
        const { stdout } = await succeeded(run(hosts, { env: own }));
        assert.match(stdout.toString(), /^box:/m);
      });
    }
  });

  for (const name of allProxies) {
    it(`${name}: ssh and scp of ${sizeMiB} MiB get through, each way`, async () => {
      const ssh = sshThrough(through(name), name.replaceAll(/\W+/g, '-'));
      const { stdout } = await succeeded(ssh.run([box, 'echo through']));
      assert.equal(stdout.toString(), 'through\n');
      const file = makeFile(scratch.path('file'), sizeMiB);
      const [there, back] = [scratch.path('there'), scratch.path('back')];
      const options = { timeoutMs: 300_000 };
      await succeeded(ssh.command(['scp', '-q', '-F', ssh.configFile, file, `${box}:${there}`], options));
      await succeeded(ssh.command(['scp', '-q', '-F', ssh.configFile, `${box}:${there}`, back], options));
      assert.equal(await sha256OfFile(back), await sha256OfFile(file));
    });
  }

  for (const [name, user] of [
    ['squid, Basic', 'alice'],
    ['squid, Digest before Basic', 'alice'],
    ['squid, NTLM', String.raw`CORP\alice`],
    ['tinyproxy, Basic', 'alice'],
  ] as const) {
    it(`${name}: a wrong password is sent once, and reported as wrong`, async () => {
      const refused = (): number => refusals(proxies[name]);
      const before = refused();
      const ssh = sshThrough(through(name, inEnvironment(user, 'canary')), 'wrong');
      const { code, stderr } = await ssh.run([box, 'true']);
      assert.equal(code, 255);
      const [first, second] = stderr.toString().split('\n');
      assert.match(first!, /^postern: corporate proxy: .*POSTERN_PROXY_PASSWORD.*\(PROXY_SIGN_IN\)$/);
      assert.match(second!, /^postern: hint: export POSTERN_PROXY_USER=/);
      assert.ok(!stderr.includes('canary'));
      // Of NTLM a refusal with the challenge in between.
      const most = name === 'squid, NTLM' ? 3 : 2;
      assert.equal(refused() - before, most);
      // The next ssh does not send it at all.
      const { stderr: later } = await ssh.run([box, 'true']);
      assert.match(later.toString(), /refused the password.*\(PROXY_SIGN_IN\)\npostern: hint: rm '/);
      assert.equal(refused() - before, most + 1);
    });
  }

  for (const name of ['squid, Basic', 'squid, NTLM', 'squid, Negotiate'] as const) {
    it(`${name}: a user without credentials gets a hint of what is wanted`, async () => {
      const { url } = proxies[name];
      const env = {
        ...world.env,
        HTTPS_PROXY: url,
        POSTERN_NO_INPUT: '1',
        KRB5_CONFIG: kdc.env['KRB5_CONFIG'],
      };
      const { code, stderr } = await ask({ ...env, KRB5CCNAME: `FILE:${scratch.path('none')}` });
      assert.equal(code, 77);
      const [first, second] = stderr.toString().split('\n');
      assert.match(first!, /^postern: corporate proxy: .*requires a sign-in and offers .*\(PROXY_SIGN_IN\)$/);
      assert.match(second!, wantedHints[name]);
    });
  }

  it('without the package for Kerberos, the hint is how to get it', async () => {
    const [, bundle] = clientCommand();
    const { code, stderr } = await ask(through('squid, Negotiate'), bundle);
    assert.equal(code, 77);
    assert.match(stderr.toString(), /\(PROXY_SIGN_IN\)\npostern: hint: npm install --global kerberos\n/);
  });

  it('squid, Basic: the password comes out of the keyring', async () => {
    const { url, port } = proxies['squid, Basic'];
    const { env } = sshThrough({ ...world.env, HTTPS_PROXY: url, CI: '', POSTERN_NO_INPUT: '' }, 'keyring');
    const entry = `protocol http server ${proxyHost} port ${port} user alice`;
    const script = `printf x | gnome-keyring-daemon --unlock --components=secrets > /dev/null
      printf 'correct horse' | secret-tool store --label=proxy ${entry}
      exec ssh -F ${scratch.path('keyring.ssh_config')} ${box} 'echo through'`;
    const home = scratch.path('keyring-home');
    mkdirSync(`${home}/run`, { recursive: true, mode: 0o700 });
    const isolated = { ...env, XDG_DATA_HOME: `${home}/data`, XDG_RUNTIME_DIR: `${home}/run` };
    const argv = within(network.client, ['dbus-run-session', '--', 'sh', '-c', script]);
    const { stdout, stderr } = await run(argv, { env: isolated });
    assert.equal(stdout.toString(), 'through\n', stderr.toString());
  });

  it('a user at the terminal is asked for the password, once for all connections, and it is not echoed', async () => {
    const { url } = proxies['squid, NTLM'];
    const { env } = sshThrough({ ...world.env, HTTPS_PROXY: url, CI: '', POSTERN_NO_INPUT: '' }, 'asked');
    const command = `ssh -F ${scratch.path('asked.ssh_config')} ${box} 'echo through' < /dev/null`;
    const terminal = openTerminal(scratch, command, { env, namespace: network.client });
    await terminal.shows('user name');
    terminal.type('CORP\\alix\u007fce\r');
    await terminal.shows('password of CORP\\alice: ');
    terminal.type('correct-horsey\u007f\r');
    await terminal.shows('through');
    assert.equal(await terminal.ended, 0, terminal.shown());
    assert.doesNotMatch(terminal.shown(), /horse/);
    assert.equal(terminal.shown().match(/password of/g)?.length, 1);
    assert.match(terminal.shown(), /to avoid this prompt, store the password: secret-tool store/);
  });

  it('a user who breaks off at the prompt is not prompted again', async () => {
    const { url } = proxies['squid, Basic'];
    const { env } = sshThrough(
      { ...world.env, HTTPS_PROXY: url, CI: '', POSTERN_NO_INPUT: '' },
      'broken-off',
    );
    const command = `ssh -F ${scratch.path('broken-off.ssh_config')} ${box} true < /dev/null`;
    const terminal = openTerminal(scratch, command, { env, namespace: network.client });
    await terminal.shows('user name');
    terminal.type('\u0003');
    assert.equal(await terminal.ended, 255, terminal.shown());
    assert.match(terminal.shown(), /\(PROXY_SIGN_IN\)/);
    assert.equal(terminal.shown().match(/user name: /g)?.length, 1);
  });
});

const wantedHints = {
  'squid, Basic': /^postern: hint: export POSTERN_PROXY_USER='USER' POSTERN_PROXY_PASSWORD=/,
  'squid, NTLM': /^postern: hint: export POSTERN_PROXY_USER='DOMAIN\\USER' POSTERN_PROXY_PASSWORD=/,
  'squid, Negotiate': /^postern: hint: kinit$/,
} as const;

/** How often squid has refused a request so far; of tinyproxy, how many there were. */
function refusals(proxy: SignInProxy): number {
  return proxy.accessLog().match(/ TCP_DENIED\/407 |Request \(file/g)?.length ?? 0;
}
