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
  'faketime',
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
  // With OpenSSL, instead of "squid", which cannot inspect TLS.
  'squid-openssl',
  'tinyproxy',
  'winbind',
];

const policyFile = '/usr/sbin/policy-rc.d';

/**
 * Installs missing packages, as root on Debian. None of the installed services is started. Optional packages are tried
 * one by one, and those that are unavailable are named.
 */
export function installSystemPackages(names = packages, { isOptional = false } = {}) {
  const missing = names.filter((name) => !isInstalled(name));
  if (missing.length === 0) return;
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) {
    console.log(`postern: not installed here, so the tests that need them are skipped: ${missing.join(' ')}`);
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

/** The arguments of `run` and `spawnSync`. */
function aptGet(...args) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  return ['apt-get', ['-q', '-y', '--no-install-recommends', ...args], { env }];
}

/** All at once if possible, else one by one, so that one missing package does not block the others. */
function installEach(names) {
  spawnSync(...aptGet('update'));
  if (spawnSync(...aptGet('install', ...names)).status === 0) return;
  const lacking = names.filter((name) => spawnSync(...aptGet('install', name)).status !== 0);
  if (lacking.length > 0) console.log(`postern: unavailable here: ${lacking.join(' ')}`);
}

function isInstalled(name) {
  const { status, stdout } = spawnSync('dpkg-query', ['-W', '-f', '${db:Status-Status}', name], {
    encoding: 'utf8',
  });
  return status === 0 && stdout === 'installed';
}
