import { constants } from 'node:fs';
import { access, open } from 'node:fs/promises';
import { parseArgs } from '../../base/parse-args.ts';
import { InvalidTokenError, readIdentity } from '../auth/jwt/claims.ts';
import { issueToken, loadKeyFile, openKeyFile, ownAudience, ownMaxLifetimeMs } from '../auth/gateway-key.ts';
import type { SigningKey } from '../auth/gateway-key.ts';
import { openRememberedKey } from '../auth/remembered-key.ts';
import type { Config } from '../config/config.ts';
import { ownIssuer } from '../config/issuer-urls.ts';
import { defaultConfigFile, loadConfig } from '../config/load.ts';
import { openStore } from '../store/open-store.ts';
import { UsageError, exits, runCommand } from './command.ts';
import type { CommandIo } from './command.ts';

const usage =
  'postern-gateway token --subject S [--group G]… [--target T]… [--ttl 8h] [--out FILE] [--new-key] [--config FILE]';

/** Prints a new token signed with the gateway's own key, and nothing else, on stdout, or writes it to a file. */
export function token(args: string[], io: CommandIo): Promise<number> {
  return runCommand(io, usage, async () => {
    const { values } = parseArgs({
      args,
      options: {
        config: { type: 'string', default: defaultConfigFile },
        subject: { type: 'string' },
        group: { type: 'string', multiple: true, default: [] },
        target: { type: 'string', multiple: true },
        ttl: { type: 'string', default: '8h' },
        out: { type: 'string' },
        'new-key': { type: 'boolean', default: false },
      },
    });
    if (values.subject === undefined)
      throw new UsageError('--subject is missing: name the subject of the token');
    const ttlMs = readDuration(values.ttl);
    const { subject, groups, targets } = checkIdentity({
      sub: values.subject,
      groups: values.group,
      ...(values.target && { targets: values.target }),
    });
    const config = await loadConfig(values.config, io.env);
    const key = values['new-key'] ? await openKeyFile(config.keyFile) : await openKey(config);
    const issued = await issueToken(key, {
      issuer: ownIssuer(config.publicUrl),
      audience: ownAudience,
      subject,
      groups: [...groups],
      ...(targets && { targets }),
      ttlMs,
      now: Date.now(),
    });
    if (values.out === undefined) io.stdout.write(`${issued}\n`);
    else await writeToken(values.out, issued);
    return exits.ok;
  });
}

/** Writes a token so that only this user can read it, also where a file with another mode is there already. */
async function writeToken(path: string, text: string): Promise<void> {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW;
  let file;
  try {
    file = await open(path, flags, 0o600);
    await file.chmod(0o600);
    await file.truncate();
    await file.writeFile(`${text}\n`);
  } catch (cause) {
    throw new UsageError(`--out: cannot write ${path}: ${(cause as NodeJS.ErrnoException).code}`, { cause });
  } finally {
    await file?.close();
  }
}

/** The key, which is made when there is none, unless a store is there that remembers one. */
async function openKey({ keyFile, store: { file } }: Config): Promise<SigningKey> {
  const present = await loadKeyFile(keyFile);
  if (present) return present;
  const hasStore = await access(file).then(
    () => true,
    () => false,
  );
  if (!hasStore) return openKeyFile(keyFile);
  const store = await openStore({ file });
  try {
    return await openRememberedKey({ keyFile, storeFile: file }, store);
  } finally {
    await store.close();
  }
}

/** Reads the claims as the gateway will read them, so that no token is issued that it would refuse. */
function checkIdentity(claims: Record<string, unknown>): ReturnType<typeof readIdentity> {
  try {
    return readIdentity(claims, 'groups');
  } catch (cause) {
    if (!(cause instanceof InvalidTokenError)) throw cause;
    throw new UsageError(cause.message.replace(/^sub:/, '--subject:'), { cause });
  }
}

const units: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

function readDuration(text: string): number {
  const [, digits, unit] = /^([1-9]\d{0,7})([smhd])$/.exec(text) ?? [];
  const durationMs = Number(digits) * (units[unit ?? ''] ?? Number.NaN);
  if (!(durationMs <= ownMaxLifetimeMs))
    throw new UsageError('--ttl must be a time such as 30m, 8h or 7d, at most 30d');
  return durationMs;
}
