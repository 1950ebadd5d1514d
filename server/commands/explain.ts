import { readFile } from 'node:fs/promises';
import { parseArgs } from '../../base/parse-args.ts';
import { TunnelError } from '../../protocol/errors.ts';
import { formatTarget, isAddress, parseTarget } from '../../protocol/target.ts';
import type { Target } from '../../protocol/target.ts';
import type { Principal } from '../auth/authenticator.ts';
import { InvalidTokenError, readIdentity } from '../auth/jwt/claims.ts';
import { ownProperty, parseJsonObject } from '../auth/jwt/strict-json.ts';
import type { Config } from '../config/config.ts';
import { ownIssuer } from '../config/issuer-urls.ts';
import { defaultConfigFile, loadConfig } from '../config/load.ts';
import { addressCheck } from '../dial/address-policy.ts';
import { nameResolver } from '../dial/resolve.ts';
import { rulesPolicy } from '../policy/rules.ts';
import type { EvaluationStep } from '../policy/rules.ts';
import { UsageError, exits, runCommand } from './command.ts';
import type { CommandIo } from './command.ts';

const usage = 'postern-gateway explain [--config FILE] --as CLAIMS.json <host[:port]>';

/** Shows which rule decides about a target and why, and what the network policy says of its addresses. Exits 77 when it is denied. */
export function explain(args: string[], io: CommandIo): Promise<number> {
  return runCommand(io, usage, async () => {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: { config: { type: 'string', default: defaultConfigFile }, as: { type: 'string' } },
    });
    const [host, ...more] = positionals;
    if (host === undefined || more.length > 0) throw new UsageError('name one target, as host or host:port');
    if (values.as === undefined)
      throw new UsageError('--as is missing: name a file with the claims of a token');
    const target = readTarget(host);
    const config = await loadConfig(values.config, io.env);
    const principal = await readPrincipal(values.as, config);
    return await report(config, { principal, target }, io);
  });
}

interface ExplainRequest {
  readonly principal: Principal;
  readonly target: Target;
}

async function report(config: Config, { principal, target }: ExplainRequest, io: CommandIo): Promise<number> {
  const print = (line: string) => io.stdout.write(`${line}\n`);
  print(`${principal.subject} (${principal.issuer}), groups: ${[...principal.groups].join(', ') || 'none'}`);
  const { grant, steps } = rulesPolicy(config).explain(principal, target);
  for (const step of steps) print(formatStep(step));
  if (!grant) {
    print(`${formatTarget(target)} is denied (TARGET_DENIED)`);
    return exits.denied;
  }
  try {
    const evaluated = await evaluateAddresses(config, grant.address);
    for (const step of evaluated) print(formatStep(step));
    const allowed = evaluated.some((step) => step.allows);
    print(
      `${formatTarget(target)} is ${allowed ? `allowed by ${grant.rule}` : 'denied by the network policy (ADDRESS_DENIED)'}`,
    );
    return allowed ? exits.ok : exits.denied;
  } catch (error) {
    if (!(error instanceof TunnelError)) throw error;
    print(`${formatTarget(target)} is allowed by ${grant.rule}, but ${error.message} (${error.code})`);
    return error.facts.exit;
  }
}

async function evaluateAddresses(config: Config, { host, port }: Target): Promise<readonly EvaluationStep[]> {
  const check = addressCheck({ network: config.network, ownAddresses: [config.listen, config.admin] });
  const names = nameResolver({ nameServers: config.network.nameServers });
  const addresses = isAddress(host) ? [host] : await names.resolve(host, AbortSignal.timeout(10_000));
  return addresses.map((address) => {
    const { allowed, why } = check(address, port);
    return { what: address, allows: allowed, why };
  });
}

function formatStep({ what, allows, why }: EvaluationStep): string {
  return `  ${allows ? 'yes' : 'no '}  ${what}: ${why}`;
}

function readTarget(text: string): Target {
  try {
    return parseTarget(text);
  } catch (cause) {
    throw new UsageError((cause as Error).message, { cause });
  }
}

/** Reads the claims of a token as its issuer writes them; without `iss`, those of a token of the gateway's own key. */
async function readPrincipal(file: string, config: Config): Promise<Principal> {
  try {
    const claims = parseJsonObject(await readFile(file, 'utf8'));
    const own = ownIssuer(config.publicUrl);
    const issuer = ownProperty(claims, 'iss') ?? own;
    const trusted = config.issuers.find((each) => each.issuer === issuer);
    if (typeof issuer !== 'string' || (!trusted && issuer !== own)) {
      throw new InvalidTokenError('iss: not a trusted issuer');
    }
    const identity = readIdentity(claims, trusted?.groupsClaim ?? 'groups');
    return { issuer, ...identity, issuedAt: new Date(), expiresAt: new Date(8.64e15) };
  } catch (cause) {
    throw new UsageError(`${file}: ${(cause as Error).message}`, { cause });
  }
}
