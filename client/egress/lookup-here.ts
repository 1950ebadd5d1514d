import type { LookupFunction } from 'node:net';
import { networkId } from '../network.ts';
import { lookupIn } from './lookup.ts';

/** For what is only somebody's in this network: a proxy, which elsewhere could be a stranger at its address. */
export const lookupHere: LookupFunction = lookupIn(networkId);
