import type { TunnelErrorCode } from '../../protocol/errors.ts';
import { formatTarget, isAddress } from '../../protocol/target.ts';
import type { Target } from '../../protocol/target.ts';
import type { Config } from '../config/config.ts';
import { addressCheck } from '../dial/address-policy.ts';
import { nameResolver } from '../dial/resolve.ts';
import type { RefusalExplanation } from '../doctor/check.ts';

const resolveMs = 10_000;

/**
 * Why this gateway refuses a tunnel to a target with the code, and the line of `postern.yaml` that changes it; undefined
 * for a code that its log explains better. Rejects when a name cannot be resolved.
 */
export async function explainRefusal(
  config: Config,
  code: TunnelErrorCode,
  target: Target,
): Promise<RefusalExplanation | undefined> {
  const named = config.targets.find(({ name }) => name === target.host);
  const address = named ? { host: named.host, port: named.port ?? target.port } : target;
  if (code === 'TARGET_DENIED') return deniedTarget(config, target);
  if (code === 'ADDRESS_DENIED') return deniedAddress(config, address);
  if (code === 'DIAL_REFUSED' || code === 'DIAL_TIMEOUT' || code === 'DIAL_UNREACHABLE')
    return {
      why: dialReasons[code](formatTarget(address)),
      advice: 'check from this machine that the SSH server answers there:',
      lines: [`ssh-keyscan -p ${address.port} ${address.host}`],
    };
  return undefined;
}

const dialReasons = {
  DIAL_REFUSED: (at: string) => `nothing listens at ${at}, or a firewall refuses the connection`,
  DIAL_TIMEOUT: (at: string) => `${at} does not answer`,
  DIAL_UNREACHABLE: (at: string) => `there is no route from this machine to ${at}`,
};

function deniedTarget({ rules }: Config, target: Target): RefusalExplanation {
  const group = rules.find(({ groups }) => groups.length > 0)?.groups[0] ?? 'GROUP';
  return {
    why: `no rule allows ${formatTarget(target)}`,
    advice: 'add to rules, for those who are to reach it:',
    lines: [`- { groups: [${group}], targets: ['${formatTarget(target)}'] }`],
  };
}

async function deniedAddress(
  config: Config,
  { host, port }: Target,
): Promise<RefusalExplanation | undefined> {
  const { network, listen, admin } = config;
  const check = addressCheck({ network, ownAddresses: [listen, admin] });
  const found = isAddress(host)
    ? [host]
    : await nameResolver({ nameServers: network.nameServers }).resolve(host, AbortSignal.timeout(resolveMs));
  const refused = found
    .map((address) => ({ address, ...check(address, port) }))
    .filter(({ allowed }) => !allowed);
  const [first] = refused;
  if (first === undefined) return undefined;
  const why = `the network policy refuses ${first.address}: ${first.why}`;
  const ranges = refused.map(({ address }) => `${address}/${address.includes(':') ? 128 : 32}`);
  const opened = addressCheck({
    network: { ...network, allow: [...network.allow, ...ranges] },
    ownAddresses: [listen, admin],
  });
  if (!opened(first.address, port).allowed)
    return {
      why,
      advice: first.why.includes('network.deny')
        ? 'if it is to be reached, take that range out of network.deny.'
        : 'no setting opens this address; write another address for the target.',
      lines: [],
    };
  const besides =
    network.allow.length === 0
      ? ' (with that line, all other ranges that are to be dialled have to be listed too)'
      : '';
  return {
    why,
    advice: `if it is to be reached, write in postern.yaml${besides}:`,
    lines: [`network: { allow: [${[...network.allow, ...ranges].map(quoteRange).join(', ')}] }`],
  };
}

/** YAML reads a colon as the end of a key. */
function quoteRange(range: string): string {
  return range.includes(':') ? `'${range}'` : range;
}
