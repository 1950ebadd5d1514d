import type { Carrier } from '../../stream/carrier.ts';
import { toFailure } from '../errors/failure.ts';
import type { ConnectorRequest, CarrierConnector } from './connector.ts';
import { isTransportFailure } from '../http/refusal.ts';

/** The ways of carriers, the better one first. */
export const wayNames = ['relay', 'http'] as const;
export type WayName = (typeof wayNames)[number];

/** A carrier, and how it came. */
export interface OpenedCarrier {
  readonly carrier: Carrier;
  readonly name: WayName;
}

/** The ways by which a tunnel's carriers come, and which of them works now. */
export class ConnectorSelector {
  #current: WayName;
  readonly #isPinned: boolean;
  readonly #loaded = new Map<WayName, CarrierConnector>();

  constructor(current: WayName, { isPinned }: { readonly isPinned: boolean }) {
    this.#current = current;
    this.#isPinned = isPinned;
  }

  /** Whether there is a better way than the one that works now. */
  get isSecondBest(): boolean {
    return !this.#isPinned && this.#current !== wayNames[0];
  }

  /**
   * Opens a carrier by the way that works, else by the other: a tunnel that began at home by WebSocket goes on where
   * none passes. `question` is asked anew for each. When none passes, the first failure is thrown.
   */
  async open(
    question: () => ConnectorRequest,
    { onlyBetter, signal }: { readonly onlyBetter: boolean; readonly signal: AbortSignal },
  ): Promise<OpenedCarrier> {
    let first: unknown;
    for (const name of this.#order(onlyBetter)) {
      let isReached = false;
      try {
        const asked = question();
        const onConnected = (): void => {
          isReached = true;
          asked.onConnected?.();
        };
        return await this.openBy(name, { ...asked, onConnected });
      } catch (error) {
        if (signal.aborted && isReached && !onlyBetter) this.failed(name);
        if (signal.aborted || !isTransportFailure(toFailure(error))) throw error;
        first ??= error;
      }
    }
    throw first;
  }

  async openBy(name: WayName, question: ConnectorRequest): Promise<OpenedCarrier> {
    const connector = this.#loaded.get(name) ?? (await loadWay(name));
    this.#loaded.set(name, connector);
    return { carrier: await connector.open(question), name };
  }

  /** Notes that a carrier of this way works. Gives whether the one before was of another. */
  worked(name: WayName): boolean {
    const hasChanged = name !== this.#current;
    this.#current = name;
    return hasChanged;
  }

  /** Notes that a way was silent for too long: next time the other is tried first. */
  failed(name: WayName): void {
    if (!this.#isPinned && name === this.#current) this.#current = wayNames.find((other) => other !== name)!;
  }

  #order(onlyBetter: boolean): readonly WayName[] {
    if (onlyBetter) return [wayNames[0]];
    if (this.#isPinned) return [this.#current];
    return [this.#current, ...wayNames.filter((name) => name !== this.#current)];
  }
}

async function loadWay(name: WayName): Promise<CarrierConnector> {
  if (name === 'relay') return (await import('./websocket-connector.ts')).webSocketConnector;
  return (await import('./http-connector.ts')).httpConnector();
}
