import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { before, describe, it } from 'node:test';
import {
  closeGates,
  fakeEtc,
  needsInspection,
  startCompanySquid,
  startDante,
  startLifetime,
  startPacServer,
  startSshSocks,
  startTinyproxy,
  type CompanyProxy,
} from '../support/company.ts';
import { clientBundle } from '../support/needs.ts';
import { needsNetwork, openNetwork, type Network } from '../support/network.ts';
import { eventually, freePort, output, type Environment } from '../support/process.ts';
import {
  audited,
  closeSession,
  isLong,
  makeFile,
  openSession,
  sha256OfFile,
  succeeded,
} from '../support/resume.ts';
import { openScratch } from '../support/scratch.ts';
import { box, clientCommand, type Ssh } from '../support/ssh.ts';
import { openWorld, type World } from '../support/world.ts';

const programs =
  'ssh sshd ssh-keygen openssl scp script curl nginx squid danted tinyproxy gsettings socat timeout'.split(
    ' ',
  );

const sizeMiB = isLong ? 100 : 4;
const password = 'p:%@ss';
const inBox = "'the box'";

const inspection = needsInspection();

/** Takes the client to another network. */
async function move({ client }: Network, from: string, to: string): Promise<void> {
  await output(`ip -n ${client} addr add ${to}/24 dev wlan`.split(' '));
  await output(`ip -n ${client} addr del ${from}/24 dev wlan`.split(' '));
}

function viaRelay(): string {
  return clientCommand('connect', '--via', 'relay', '%h', '%p').join(' ');
}

function connects(proxy: CompanyProxy): number {
  return proxy
    .log()
    .split('\n')
    .filter((line) => line.includes(' CONNECT ')).length;
}

describe(
  'out of a network in which only the proxy is reachable',
  needsNetwork(clientBundle, ...programs),
  () => {
    const scratch = openScratch();
    let network: Network;
    let world: World;
    let ssh: Ssh;
    let file: string;
    let deadPort: number;
    let silentPort: number;
    let proxies: Readonly<
      Record<
        'open' | 'signed' | 'ssh' | 'tiny' | 'only443' | 'idle' | 'lifetime' | 'pac' | 'wpad' | 'elsewhere',
        CompanyProxy
      >
    >;
    let inspecting: CompanyProxy & { readonly authority: string };
    let count = 0;

    before(async () => {
      network = await openNetwork(scratch);
      const { address } = network;
      const hash = (await output(['openssl', 'passwd', '-6', password])).toString().trim();
      fakeEtc(scratch, network.servers, {
        hosts: `127.0.0.1 localhost\n${address} gw.example\n`,
        passwd: `${readFileSync('/etc/passwd', 'utf8')}alice:x:4711:4711::/:/bin/false\n`,
        shadow: `root:*:1::::::\nalice:${hash}:1::::::\n`,
      });
      world = await openWorld(scratch, 'nginx', {
        front: { address },
        host: 'gw.example',
        clientNamespace: network.client,
      });
      // No authority is trusted, and later the company's own.
      fakeEtc(scratch, network.client, {
        'ssl/certs/ca-certificates.crt': '',
        hosts: `127.0.0.1 localhost\n${address} wpad\nfd00:77::9 proxy.example\n${address} proxy.example\n`,
      });
      // No host has the other address of proxy.example: what is sent there vanishes.
      await output(`ip -n ${network.client} addr add fd00:77::2/64 dev wlan nodad`.split(' '));
      const { port: gatewayPort } = new URL(world.url);
      const allowedPort = Number(gatewayPort);
      [deadPort, silentPort] = [await freePort(), await freePort()];
      const squid = (name: string, ...lines: string[]): Promise<CompanyProxy> =>
        startCompanySquid(scratch, network, { name, allowedPort, lines });
      const [open, signed, viaSsh, tiny] = await Promise.all([
        startDante(scratch, network, false),
        startDante(scratch, network, true),
        startSshSocks(scratch, network, world.sshd),
        startTinyproxy(scratch, network, allowedPort),
      ]);
      const only443 = await startCompanySquid(scratch, network, { name: 'only443', allowedPort: 443 });
      const idle = await squid('idle', 'read_timeout 3 seconds');
      await output(`ip -n ${network.servers} addr add 10.78.0.1/24 dev cable`.split(' '));
      const elsewhere = await startTinyproxy(scratch, { address: '10.78.0.1' }, allowedPort);
      const lifetime = await startLifetime(scratch, tiny, 4);
      inspecting = await startCompanySquid(scratch, network, {
        name: 'inspecting',
        allowedPort,
        ...(inspection.skip === false && {
          inspects: { as: 'Corporate Inspection', certificates: world.certificates },
        }),
      });
      const switching = `function FindProxyForURL(url, host) {
      if (shExpMatch(host, 'gw.*')) return 'PROXY ${address}:${silentPort}; PROXY ${idle.address}; DIRECT';
      return 'PROXY ${tiny.address}';
    }`;
      const pac = await startPacServer(scratch, network, { script: switching });
      const wpad = await startPacServer(scratch, network, { script: switching, path: 'wpad.dat', port: 80 });
      proxies = { open, signed, ssh: viaSsh, tiny, only443, idle, lifetime, pac, wpad, elsewhere };
      const ports = [...Object.values(proxies), inspecting].map(({ port }) => port);
      await closeGates(network, { gatewayPort: allowedPort, open: ports, silent: silentPort });
      ssh = world.ssh();
      file = makeFile(scratch.path('file'), sizeMiB);
    });

    /** The environment of a user who has never used the client. */
    function newcomer(env: Environment): Environment {
      const state = scratch.path(`state-${count++}`);
      mkdirSync(state);
      return { XDG_STATE_HOME: state, ...env };
    }

    /** A GNOME with these settings. */
    function desktop(keyfile: string): Environment {
      const home = scratch.path(`config-${count++}`);
      mkdirSync(`${home}/glib-2.0/settings`, { recursive: true });
      writeFileSync(`${home}/glib-2.0/settings/keyfile`, keyfile);
      const env = {
        XDG_CONFIG_HOME: home,
        GSETTINGS_BACKEND: 'keyfile',
        XDG_CURRENT_DESKTOP: 'ubuntu:GNOME',
      };
      return newcomer(env);
    }
    function manualSettings(): string {
      const [host, port] = proxies.idle.address.split(':');
      return `[system/proxy]\nmode='manual'\n[system/proxy/https]\nhost='${host}'\nport=${port}\n`;
    }

    /** What people do: a question to the gateway, a command, a file. */
    async function works(env: Environment): Promise<void> {
      const asked = await succeeded(ssh.command([...clientCommand('hosts', '--json')], { env }));
      assert.match(asked.stdout.toString(), /"box:/);
      const { stdout } = await succeeded(ssh.run([box, `echo ${inBox}`], { env }));
      assert.equal(stdout.toString(), 'the box\n');
      const there = scratch.path(`file-${count++}`);
      const timeoutMs = isLong ? 300_000 : 30_000;
      await succeeded(
        ssh.command(['scp', '-q', '-F', ssh.configFile, file, `${box}:${there}`], { env, timeoutMs }),
      );
      assert.equal(await sha256OfFile(there), await sha256OfFile(file));
    }

    async function fails(env: Environment): Promise<string> {
      const { code, stderr } = await ssh.run([box, 'true'], { env, timeoutMs: 60_000 });
      assert.equal(code, 255);
      return stderr.toString();
    }

    it('there is no way without a proxy', async () => {
      assert.match(await fails(newcomer({})), /GATEWAY_(?:UNREACHABLE|TIMEOUT)/);
    });

    for (const [what, name, scheme] of [
      ['dante', 'open', 'socks4'],
      ['dante', 'open', 'socks5'],
      ['dante', 'open', 'socks5h'],
      ['ssh -D', 'ssh', 'socks4'],
      ['ssh -D', 'ssh', 'socks4a'],
      ['ssh -D', 'ssh', 'socks5h'],
      ['tinyproxy', 'tiny', 'http'],
    ] as const) {
      it(`${what} as ${scheme}:// leads out`, async () => {
        await works(newcomer({ ALL_PROXY: `${scheme}://${proxies[name].address}` }));
      });
    }

    for (const scheme of ['socks5', 'socks5h']) {
      it(`dante as ${scheme}:// leads out with the right password`, async () => {
        const user = `alice:${encodeURIComponent(password)}`;
        await works(newcomer({ ALL_PROXY: `${scheme}://${user}@${proxies.signed.address}` }));
      });
    }

    for (const [what, user] of [
      ['with the wrong password', 'alice:canary@'],
      ['without a password', ''],
    ] as const) {
      it(`dante ${what} is named as the layer that failed`, async () => {
        const said = await fails(newcomer({ ALL_PROXY: `socks5h://${user}${proxies.signed.address}` }));
        assert.match(said, /^postern: corporate proxy: .*\(PROXY_SIGN_IN\)/m);
        assert.ok(!said.includes('canary'));
      });
    }

    it('squid that allows CONNECT to 443 only leads to a gateway there', async () => {
      const HTTPS_PROXY = `http://${proxies.only443.address}`;
      await works(newcomer({ HTTPS_PROXY, POSTERN_GATEWAY: 'https://gw.example/ssh/' }));
      assert.match(await fails(newcomer({ HTTPS_PROXY })), /\(PROXY_REFUSED\)/);
    });

    it('HTTP_PROXY leads out where nothing else is set', async () => {
      await works(newcomer({ HTTP_PROXY: `http://${proxies.tiny.address}` }));
    });

    // Each waits for something that is dead or slow.
    describe('past what gives no answer', { concurrency: true }, () => {
      it('a proxy with several addresses is reached by the one that answers', async () => {
        const [, socks] = proxies.open.address.split(':');
        const [, http] = proxies.tiny.address.split(':');
        await works(newcomer({ ALL_PROXY: `socks5h://proxy.example:${socks}` }));
        await works(newcomer({ HTTPS_PROXY: `http://proxy.example:${http}` }));
      });

      it('a PAC file of a web server leads out past a dead proxy, which is not asked again for a while', async () => {
        const env = newcomer({ POSTERN_PAC: `http://${proxies.pac.address}/proxy.pac?once` });
        await works(env);
        const fetched = proxies.pac.log().match(/proxy\.pac\?once /g)?.length;
        assert.equal(fetched, 1, 'the verdict is kept');
        const startedAt = performance.now();
        await succeeded(ssh.run([box, 'true'], { env }));
        assert.ok(performance.now() - startedAt < 10_000, 'the dead proxy was tried again');
      });

      it('the settings of GNOME lead out', async () => {
        await works(desktop(manualSettings()));
        const pac = `http://${proxies.pac.address}/proxy.pac`;
        await works(desktop(`[system/proxy]\nmode='auto'\nautoconfig-url='${pac}'\n`));
      });

      it('the settings of GNOME have a PAC file looked for where they say so (WPAD)', async () => {
        await works(desktop("[system/proxy]\nmode='auto'\n"));
        assert.match(proxies.wpad.log(), /GET \/wpad\.dat /);
      });
    });

    describe('a PAC file', () => {
      it('switches by host', async () => {
        const port = new URL(world.url).port;
        const env = newcomer({
          POSTERN_PAC: `http://${proxies.pac.address}/proxy.pac`,
          POSTERN_GATEWAY: `https://other.example:${port}/ssh/`,
        });
        const said = await fails(env);
        assert.ok(said.includes(`http://${proxies.tiny.address}`), said);
      });

      it('of the disk leads out', async () => {
        const path = scratch.path('local.pac');
        writeFileSync(path, `function FindProxyForURL() { return 'SOCKS5 ${proxies.open.address}'; }`);
        await works(newcomer({ POSTERN_PAC: path }));
      });

      it('that cannot be had is named when there is no way without it', async () => {
        const said = await fails(newcomer({ POSTERN_PAC: '/does/not/exist.pac' }));
        assert.match(said, /cannot read the PAC file.*\(PAC_FAILED\)/);
      });
    });

    describe('the settings of GNOME', () => {
      it('are not read when that is switched off, or the environment names a proxy', async () => {
        const env = desktop(manualSettings());
        assert.match(await fails({ ...env, POSTERN_SYSTEM_PROXY: '0' }), /\(GATEWAY_/);
        const said = await fails({ ...env, HTTPS_PROXY: `http://${network.address}:${deadPort}` });
        assert.match(said, /\(PROXY_UNREACHABLE\)/);
      });

      it('are read again when the remembered proxy does not answer', async () => {
        const env = desktop(manualSettings().replace(/port=\d+/, `port=${deadPort}`));
        assert.match(await fails(env), /\(PROXY_UNREACHABLE\)/);
        writeFileSync(`${env['XDG_CONFIG_HOME']}/glib-2.0/settings/keyfile`, manualSettings());
        await works(env);
      });
    });

    describe('a proxy that inspects TLS', inspection, () => {
      it('is named by its authority while that is not trusted', async () => {
        const said = await fails(newcomer({ HTTPS_PROXY: `http://${inspecting.address}` }));
        assert.match(said, /^postern: TLS: .*"Corporate Inspection".*\(TLS_FAILED\)/m);
        assert.match(said, /--ca-file/);
      });

      it('is no obstacle once the system trusts it, and that is remembered', async () => {
        fakeEtc(scratch, network.client, { 'ssl/certs/ca-certificates.crt': inspecting.authority });
        const env = newcomer({ HTTPS_PROXY: `http://${inspecting.address}` });
        await succeeded(ssh.run(['-o', `ProxyCommand=${viaRelay()}`, box, 'true'], { env }));
        const before_ = connects(inspecting);
        await succeeded(ssh.run(['-o', `ProxyCommand=${viaRelay()}`, box, 'true'], { env }));
        assert.equal(connects(inspecting) - before_, 1);
        await works(env);
      });

      it('is trusted with --ca-file alone as well', async () => {
        fakeEtc(scratch, network.client, { 'ssl/certs/ca-certificates.crt': '' });
        const POSTERN_CA_FILE = scratch.path('inspecting/authority.pem');
        await works(newcomer({ HTTPS_PROXY: `http://${inspecting.address}`, POSTERN_CA_FILE }));
      });
    });

    for (const [what, name] of [
      ['cuts what is idle', 'idle'],
      ['ends every connection at a certain age', 'lifetime'],
    ] as const) {
      it(`a session outlives a proxy that ${what}`, async () => {
        const env = newcomer({ HTTPS_PROXY: `http://${proxies[name].address}` });
        const session = await openSession(world, { ...ssh, env: { ...ssh.env, ...env } });
        const resumes = audited(world, 'resume').length;
        for (let cut = 1; cut <= (isLong ? 20 : 2); cut++) {
          await eventually(() => audited(world, 'resume').length >= resumes + cut, 'a resume', 60_000);
          await session.echo();
        }
        await closeSession(session);
      });
    }

    it('a session takes the way out of the network that it comes to', async () => {
      const path = scratch.path('moving.pac');
      writeFileSync(
        path,
        `function FindProxyForURL() {
          var isElsewhere = isInNet(myIpAddress(), '10.78.0.0', '255.255.255.0');
          return isElsewhere ? 'PROXY ${proxies.elsewhere.address}' : 'PROXY ${proxies.tiny.address}';
        }`,
      );
      const env = newcomer({ POSTERN_PAC: path });
      const session = await openSession(world, { ...ssh, env: { ...ssh.env, ...env } });
      assert.doesNotMatch(proxies.elsewhere.log(), /CONNECT gw/);
      await move(network, '10.77.0.2', '10.78.0.2');
      await session.echo();
      assert.match(proxies.elsewhere.log(), /CONNECT gw/);
      await closeSession(session);
      await move(network, '10.78.0.2', '10.77.0.2');
    });

    it('names are looked up by the proxy where its protocol says so', async () => {
      await network.loseDns();
      await works(newcomer({ ALL_PROXY: `socks4a://${proxies.ssh.address}` }));
      await works(newcomer({ ALL_PROXY: `socks5h://${proxies.open.address}` }));
      await works(newcomer({ HTTPS_PROXY: `http://${proxies.tiny.address}` }));
    });
  },
);
