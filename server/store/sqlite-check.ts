import { statSync } from 'node:fs';
import { TunnelError } from '../../protocol/errors.ts';
import { layout } from './sqlite-connection.ts';
import { locationOf } from './sqlite-layout.ts';
import { DamagedError, NewerError, sqlite, translateSqliteError } from './sqlite.ts';

/**
 * Looks at a store without writing to it; one that is not there, or empty, is fine. Returns the keys of the rows of
 * `gatewayKey`. Throws `STORE_UNAVAILABLE` for what the gateway could not open.
 */
export function checkSqliteStore(file: string): ReadonlySet<string> {
  const found = statSync(file, { throwIfNoEntry: false });
  if (!found) return new Set();
  if (process.platform !== 'win32' && (found.mode & 0o077) !== 0)
    throw new TunnelError('STORE_UNAVAILABLE', `other users can read ${file}; run: chmod 600 ${file}`);
  if (found.size === 0) return new Set();
  return translateSqliteError(file, () => {
    const { DatabaseSync } = sqlite();
    const database = new DatabaseSync(file, { readOnly: true });
    try {
      const [integrity] = database.prepare('PRAGMA integrity_check(1)').all();
      if (integrity?.integrity_check !== 'ok') throw new DamagedError(String(integrity?.integrity_check));
      if (Number(database.prepare('PRAGMA user_version').get()?.user_version) > layout)
        throw new NewerError();
      const hasRows = database.prepare("SELECT 1 FROM sqlite_master WHERE name = 'entries'").get();
      if (!hasRows) return new Set();
      const rows = database
        .prepare('SELECT key FROM entries WHERE name = ?')
        .all(locationOf('gatewayKey').name);
      return new Set(rows.map(({ key }) => String(key)));
    } finally {
      database.close();
    }
  });
}
