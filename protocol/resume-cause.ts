/** Causes for which a client resumes on another connection, with a description; the gateway counts them. */
export const resumeCauses = {
  reset: 'the connection broke',
  dropped: 'the connection ended without a Close frame',
  closed: 'an intermediary closed the WebSocket',
  silent: 'nothing more arrived',
  network: 'the network has changed',
  wake: 'the machine was asleep',
  move: 'the gateway requested it',
  age: 'connections of this age are cut here',
  better: 'a better kind of connection is being tried',
} as const;

export type ResumeCause = keyof typeof resumeCauses;

/** Whether `text` is one of the causes, which arrive as text. */
export function isResumeCause(text: unknown): text is ResumeCause {
  return typeof text === 'string' && Object.hasOwn(resumeCauses, text);
}
