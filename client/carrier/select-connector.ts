import type { Carrier } from '../../stream/carrier.ts';
import { toFailure } from '../errors/failure.ts';
import type { ConnectorRequest, CarrierConnector, Evidence } from './connector.ts';
import { isOfEntry, failureKind } from '../http/refusal.ts';
import type { FailureKind } from '../http/refusal.ts';

/** The connectors, the better one first. */
export const connectorNames = ['relay', 'http'] as const;
export type ConnectorName = (typeof connectorNames)[number];

/** A carrier, and the connector that opened it. */
export interface OpenedCarrier {
  readonly carrier: Carrier;
  readonly name: ConnectorName;
}

/** After this many losses in a row, the other connector is tried too. A loss says nothing about what the network lets through. */
const wornAt = 3;

/** Selects the connector for each carrier of a tunnel, and remembers which one works now. */
export class ConnectorSelector {
  #current: ConnectorName;
  readonly #isPinned: boolean;
  /** The losses of the current connector since it worked last. */
  #losses = 0;
  /** What there is against the current connector; a loss where there is nothing. */
  #evidence: Evidence = 'lost';
  readonly #loaded = new Map<ConnectorName, CarrierConnector>();

  constructor(current: ConnectorName, { isPinned }: { readonly isPinned: boolean }) {
    this.#current = current;
    this.#isPinned = isPinned;
  }

  /** Whether there is a better connector than the one that works now. */
  get isSecondBest(): boolean {
    return !this.#isPinned && this.#current !== connectorNames[0];
  }

  /**
   * Opens a carrier by the connector that works, else by the other: a tunnel that began by WebSocket at home is resumed
   * where no WebSocket passes. The other one follows at once when the first is refused; when it is lost, the first is
   * tried alone again by the next calls. `makeRequest` is called for each. When none succeeds, the first failure is thrown.
   */
  async open(
    makeRequest: () => ConnectorRequest,
    { onlyBetter, signal }: { readonly onlyBetter: boolean; readonly signal: AbortSignal },
  ): Promise<OpenedCarrier> {
    let first: unknown;
    for (const name of this.#order(onlyBetter)) {
      let isReached = false;
      try {
        const request = makeRequest();
        const onConnected = (): void => {
          isReached = true;
          request.onConnected?.();
        };
        return await this.openBy(name, { ...request, onConnected });
      } catch (error) {
        if (signal.aborted && isReached && !onlyBetter) this.failed(name);
        const failure = toFailure(error);
        if (signal.aborted || !isOfEntry(failure)) throw error;
        if (name === this.#current && !this.#isUseless(failureKind(failure))) throw error;
        first ??= error;
      }
    }
    throw first;
  }

  /** Opens a carrier by this connector alone. Throws as `CarrierConnector.open`. */
  async openBy(name: ConnectorName, request: ConnectorRequest): Promise<OpenedCarrier> {
    const connector = this.#loaded.get(name) ?? (await loadConnector(name));
    this.#loaded.set(name, connector);
    return { carrier: await connector.open(request), name };
  }

  /** Notes a failure of the current connector. Whether the other should be tried now. */
  #isUseless(kind: FailureKind): boolean {
    this.#evidence = kind === 'interrupted' ? 'lost' : 'refused';
    return kind !== 'interrupted' || ++this.#losses >= wornAt;
  }

  /** Records that a carrier of this connector works. Returns what there is against the one before, if that was another. */
  worked(name: ConnectorName): Evidence | undefined {
    const hasChanged = name !== this.#current;
    const evidence = this.#evidence;
    this.#current = name;
    this.#losses = 0;
    this.#evidence = 'lost';
    return hasChanged ? evidence : undefined;
  }

  /** Records that a connector was silent for too long: next time the other is tried first. */
  failed(name: ConnectorName): void {
    if (!this.#isPinned && name === this.#current)
      this.#current = connectorNames.find((other) => other !== name)!;
  }

  #order(onlyBetter: boolean): readonly ConnectorName[] {
    if (onlyBetter) return [connectorNames[0]];
    if (this.#isPinned) return [this.#current];
    return [this.#current, ...connectorNames.filter((name) => name !== this.#current)];
  }
}

async function loadConnector(name: ConnectorName): Promise<CarrierConnector> {
  if (name === 'relay') return (await import('./websocket-connector.ts')).webSocketConnector;
  return (await import('./http-connector.ts')).httpConnector();
}
