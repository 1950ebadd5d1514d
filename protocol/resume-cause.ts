/** Why a client comes back on another connection, in its own words; the gateway counts them. */
export const resumeCauses = {
  reset: 'the connection broke',
  dropped: 'the connection ended without a word',
  closed: 'something on the way closed the WebSocket',
  silent: 'nothing came any more',
  network: 'the network has changed',
  wake: 'the machine was asleep',
  move: 'the gateway has asked for it',
  age: 'connections of this age are cut here',
  better: 'a better way is tried',
} as const;

export type ResumeCause = keyof typeof resumeCauses;

/** Whether `text` is one of the causes; they arrive from the wire as text. */
export function isResumeCause(text: unknown): text is ResumeCause {
  return typeof text === 'string' && Object.hasOwn(resumeCauses, text);
}
