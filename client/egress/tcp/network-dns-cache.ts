import type { LookupFunction } from 'node:net';
import { networkId } from '../../os/network-id.ts';
import { networkLookup } from './dns-cache.ts';

/** For what is only somebody's in this network: a proxy, which elsewhere could be a stranger at its address. */
export const currentNetworkLookup: LookupFunction = networkLookup(networkId);
