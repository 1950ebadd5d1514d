import { spawnSync } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { run } from './bootstrap.mjs';

/** The Debian packages of the programs that the tests run. */
const packages = [
  'ansible-core',
  'apache2',
  'ca-certificates',
  'caddy',
  'chromium',
  'connect-proxy',
  'corkscrew',
  'curl',
  'dante-server',
  'dbus-daemon',
  'dnsmasq-base',
  'g++',
  'git',
  'gnome-keyring',
  'gsettings-desktop-schemas',
  'haproxy',
  'iproute2',
  'krb5-admin-server',
  'krb5-kdc',
  'krb5-user',
  'libglib2.0-bin',
  'libkrb5-dev',
  'libsecret-tools',
  'mercurial',
  'ncat',
  'netcat-openbsd',
  'nftables',
  'nginx-light',
  'openssh-client',
  'openssh-server',
  'openssl',
  'procps',
  'proxytunnel',
  'putty-tools',
  'python3-paramiko',
  'rsync',
  'socat',
  // With OpenSSL, and in the place of "squid": the other one cannot inspect TLS.
  'squid-openssl',
  'tinyproxy',
  'winbind',
];

const policyFile = '/usr/sbin/policy-rc.d';

/**
 * Installs what is missing, where this is root on Debian. None of the installed services is started. Of optional ones
 * each is tried, and what cannot be had is said.
 */
export function installSystemPackages(names = packages, { isOptional = false } = {}) {
  const missing = names.filter((name) => !isInstalled(name));
  if (missing.length === 0) return;
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) {
    console.log(`postern: not installed here, what needs them is skipped: ${missing.join(' ')}`);
    return;
  }
  console.log(`postern: installing Debian packages: ${missing.join(' ')}`);
  const policyIsOurs = !existsSync(policyFile);
  if (policyIsOurs) writeFileSync(policyFile, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    if (isOptional) installEach(missing);
    else {
      run(...aptGet('update'));
      run(...aptGet('install', ...missing));
    }
  } finally {
    if (policyIsOurs) rmSync(policyFile);
  }
}

/** What `run` and `spawnSync` take. */
function aptGet(...args) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  return ['apt-get', ['-q', '-y', '--no-install-recommends', ...args], { env }];
}

/** All at once where that does, else one by one, so that one that is not there does not keep out the others. */
function installEach(names) {
  spawnSync(...aptGet('update'));
  if (spawnSync(...aptGet('install', ...names)).status === 0) return;
  const lacking = names.filter((name) => spawnSync(...aptGet('install', name)).status !== 0);
  if (lacking.length > 0) console.log(`postern: cannot be had here: ${lacking.join(' ')}`);
}

function isInstalled(name) {
  const { status, stdout } = spawnSync('dpkg-query', ['-W', '-f', '${db:Status-Status}', name], {
    encoding: 'utf8',
  });
  return status === 0 && stdout === 'installed';
}
