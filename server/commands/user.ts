import { printableJson } from '../../base/printable-json.ts';
import { nearestName } from '../../base/nearest-name.ts';
import { parseArgs } from '../../base/parse-args.ts';
import { TunnelError } from '../../protocol/errors.ts';
import { quote } from '../../protocol/target.ts';
import { openRevocations } from '../auth/revocations.ts';
import { signInIssuer } from '../config/issuer-urls.ts';
import type { Config } from '../config/config.ts';
import { defaultConfigFile, loadConfig } from '../config/load.ts';
import {
  AccountError,
  addAccount,
  changeAccount,
  hasAccount,
  isAccountName,
  listAccounts,
} from '../login/accounts/accounts.ts';
import type { Account } from '../login/accounts/accounts.ts';
import { SignIns } from '../login/sign-ins.ts';
import { newTotpSecret, totpUrl } from '../login/accounts/totp.ts';
import { openStore } from '../store/open-store.ts';
import type { Store } from '../store/store.ts';
import { UsageError, exits, runCommand } from './command.ts';
import type { CommandIo } from './command.ts';
import { requestGateway } from './control-request.ts';
import { readNewPassword } from './passwords.ts';

const usage = `postern-gateway user add NAME [--group G]… [--totp] [--password-stdin] [--config FILE]
       postern-gateway user passwd NAME [--totp | --no-totp] [--password-stdin]
       postern-gateway user groups NAME [--group G]…
       postern-gateway user disable|enable NAME
       postern-gateway user list [--json]`;

interface Values {
  readonly group: string[];
  readonly totp: boolean;
  readonly noTotp: boolean;
  readonly passwordStdin: boolean;
  readonly json: boolean;
}

interface Work {
  readonly config: Config;
  readonly store: Store;
  readonly io: CommandIo;
  readonly values: Values;
}

/** Manages accounts of the gateway itself, for users without an identity provider. The gateway need not run. */
export function user(args: string[], io: CommandIo): Promise<number> {
  return runCommand(io, usage, async () => {
    const [action = '', ...rest] = args;
    const act = Object.hasOwn(actions, action) ? actions[action] : undefined;
    if (!act)
      throw new UsageError(
        action === ''
          ? 'name an action: add, passwd, groups, disable, enable or list'
          : `${JSON.stringify(action)} is not an action of user; ${advice(action)}`,
      );
    const { values, positionals } = parseArgs({
      args: rest,
      allowPositionals: true,
      options: { config: { type: 'string', default: defaultConfigFile }, ...flagsOf(action) },
    });
    const flags = values as Record<string, unknown>;
    const given: Values = {
      group: (flags['group'] as string[] | undefined) ?? [],
      totp: flags['totp'] === true,
      noTotp: flags['no-totp'] === true,
      passwordStdin: flags['password-stdin'] === true,
      json: flags['json'] === true,
    };
    const name = readName(action, positionals);
    const config = await loadConfig(values.config, io.env);
    const run = async (): Promise<number> => {
      const store = await openStore(config.store);
      try {
        return (await act(name, { config, store, io, values: given })) ?? exits.ok;
      } catch (error) {
        if (!(error instanceof AccountError)) throw error;
        throw new UsageError(error.message, { cause: error });
      } finally {
        await store.close();
      }
    };
    return action === 'disable' ? orEndSessions(name, config, run) : run();
  });
}

const disabledReason = 'the account was disabled';

function advice(action: string): string {
  const near = nearestName(action, Object.keys(actions));
  return near === undefined ? 'use add, passwd, groups, disable, enable or list' : `did you mean ${near}?`;
}

const flag = { type: 'boolean' } as const;
const groups = { group: { type: 'string', multiple: true } } as const;

function flagsOf(action: string): NonNullable<Parameters<typeof parseArgs>[0]>['options'] {
  if (action === 'add') return { ...groups, totp: flag, 'password-stdin': flag };
  if (action === 'passwd') return { totp: flag, 'no-totp': flag, 'password-stdin': flag };
  if (action === 'groups') return groups;
  return action === 'list' ? { json: flag } : {};
}

function readName(action: string, positionals: readonly string[]): string {
  const [name, ...more] = positionals;
  if (action === 'list' && name === undefined) return '';
  if (action === 'list' || name === undefined || more.length > 0)
    throw new UsageError(
      action === 'list' ? 'list takes no name' : `${action} needs the name of one account`,
    );
  if (!isAccountName(name))
    throw new UsageError(
      `${JSON.stringify(name)} is not a valid account name: use a-z, 0-9, . _ @ and -, at most 64 characters`,
    );
  return name;
}

/** Resolves to an exit code where that is not 0. */
const actions: Readonly<Record<string, (name: string, work: Work) => Promise<number | void>>> = {
  async add(name, work) {
    const { store, io, values } = work;
    // Checked before the operator types a password for nothing.
    if (await hasAccount(store, name)) throw new AccountError(`there is already an account ${name}`);
    const password = await readNewPassword(io, values.passwordStdin);
    const oneTimeSecret = values.totp ? newTotpSecret() : undefined;
    await addAccount(store, { name, password, groups: values.group, oneTimeSecret });
    if (oneTimeSecret !== undefined) showSecret(name, oneTimeSecret, work);
  },

  async passwd(name, work) {
    const { store, io, values } = work;
    if (values.totp && values.noTotp) throw new UsageError('use --totp or --no-totp, not both');
    if (!(await hasAccount(store, name))) throw new AccountError(`there is no account ${name}`);
    const password = await readNewPassword(io, values.passwordStdin);
    const oneTimeSecret = values.totp ? newTotpSecret() : undefined;
    const code = values.noTotp
      ? { oneTimeSecret: null }
      : oneTimeSecret === undefined
        ? {}
        : { oneTimeSecret };
    await changeAccount(store, name, { password, ...code });
    await endSignIns(name, 'the password was changed', work);
    if (oneTimeSecret !== undefined) showSecret(name, oneTimeSecret, work);
  },

  async groups(name, { store, values }) {
    await changeAccount(store, name, { groups: values.group });
  },

  async disable(name, work) {
    await changeAccount(work.store, name, { disabled: true });
    await endSignIns(name, disabledReason, work);
  },

  async enable(name, { store }) {
    await changeAccount(store, name, { disabled: false });
  },

  async list(_name, { store, io, values }) {
    let damaged = 0;
    const accounts = await listAccounts(store, (name, error) => {
      damaged += 1;
      io.stderr.write(`postern-gateway: account ${quote(name)} is left out: ${error.message}\n`);
    });
    if (values.json) io.stdout.write(`${printableJson(accounts, 2)}\n`);
    else for (const account of accounts) io.stdout.write(`${lineOf(account)}\n`);
    return damaged === 0 ? exits.ok : exits.failure;
  },
};

/** Revokes everything issued to the account so far; the running gateway ends its tunnels. */
async function endSignIns(name: string, reason: string, { config, store }: Work): Promise<void> {
  const issuer = signInIssuer(config.publicUrl);
  const revocations: Awaited<ReturnType<typeof openRevocations>> = await openRevocations(store, {
    latestProof: (subject) => new SignIns(store, revocations, { issuer }).latestProof(subject),
  });
  try {
    const issuedBefore = await revocations.momentOf(name);
    await revocations.revoke({ kind: 'subject', issuer, subject: name, issuedBefore }, reason);
  } finally {
    revocations.close();
  }
}

/**
 * Runs what disables an account. Where the store cannot be written, the running gateway at least ends its sessions and
 * holds the revocation in memory; the error says so.
 */
async function orEndSessions(name: string, config: Config, disable: () => Promise<number>): Promise<number> {
  try {
    return await disable();
  } catch (error) {
    if (!(error instanceof TunnelError) || error.code !== 'STORE_UNAVAILABLE') throw error;
    const issuer = signInIssuer(config.publicUrl);
    const request = { subject: name, issuer, revoke: true, reason: disabledReason };
    const ended = await requestGateway(config, '/kill', request).then(
      (result) => (result as { readonly ended: number }).ended,
      () => undefined,
    );
    const rest =
      ended === undefined
        ? 'No running gateway could be told'
        : `The running gateway has ended ${ended} of its sessions and revoked its sign-ins, in memory until the store can be written`;
    throw new TunnelError(
      'STORE_UNAVAILABLE',
      `${name} is not disabled: ${error.message}. ${rest}. Run this command again`,
      { cause: error },
    );
  }
}

function lineOf({ name, groups: of, disabled, hasOneTimeCode }: Account): string {
  const notes = [of.join(','), ...(hasOneTimeCode ? ['totp'] : []), ...(disabled ? ['disabled'] : [])];
  return [name, ...notes.filter((note) => note !== '')].join('  ');
}

/** Prints the one-time secret, which is never shown again. */
function showSecret(name: string, secret: string, { config, io }: Work): void {
  io.stdout.write(`${totpUrl(secret, { issuer: config.publicUrl.hostname, account: name })}\n`);
}
