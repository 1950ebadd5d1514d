import type { Command } from './command.ts';

/** The commands, each loaded when it is run: `token` does not wait for a web server to load. */
export const commands: Readonly<Record<string, () => Promise<Command>>> = {
  serve: async () => (await import('./serve.ts')).serve,
  check: async () => (await import('./check.ts')).check,
  explain: async () => (await import('./explain.ts')).explain,
  token: async () => (await import('./token.ts')).token,
  user: async () => (await import('./user.ts')).user,
  sessions: async () => (await import('./sessions.ts')).sessions,
  kill: async () => (await import('./kill.ts')).kill,
  'print-config': async () => (await import('./print-config.ts')).printConfigCommand,
  doctor: async () => (await import('./doctor.ts')).doctor,
  'verify-audit': async () => (await import('./verify-audit.ts')).verifyAudit,
};
