import { dirname } from 'node:path';
import { tops } from './source-tree.ts';
import type { SourceFile } from './source-tree.ts';

/** A rule gives what breaks it, one line each; a file that keeps it does not appear. */
export type Rule = (files: readonly SourceFile[]) => readonly string[];

const maxFilesInFolder = 15;
/** Lists of alike files: checks, commands, schemes, and the table of wire formats. */
const listFolders = [
  'protocol',
  'client/commands',
  'client/doctor',
  'client/egress/proxy-auth',
  'server/commands',
  'server/doctor',
];
/** All that lies loose at the top of the two programs. */
const topFiles: Readonly<Record<string, readonly string[]>> = {
  server: ['server/gateway.ts', 'server/main.ts', 'server/pipeline.ts', 'server/plugin.ts'],
  client: ['client/main.ts', 'client/settings.ts'],
};

/** Rule 1: no folder is wider than a reader's glance, and only entry points lie at the top. */
export const foldersAreNarrow: Rule = (files) => {
  const byFolder = Map.groupBy(files, ({ file }) => dirname(file));
  const wide = [...byFolder]
    .filter(([folder, inIt]) => inIt.length > maxFilesInFolder && !listFolders.includes(folder))
    .map(([folder, inIt]) => `${folder}: ${inIt.length} files`);
  const loose = Object.entries(topFiles).flatMap(([top, allowed]) =>
    (byFolder.get(top) ?? []).map(({ file }) => file).filter((file) => !allowed.includes(file)),
  );
  return [...wide, ...loose.map((file) => `${file} lies loose at the top`)];
};

/** Retired words as `docs/glossary.md` lists them: whole words of a name in camel case, or two in a row. */
export function retiredWords(glossary: string): ReadonlySet<string> {
  const table = glossary.slice(glossary.indexOf('## Retired words'));
  const rows = [...table.matchAll(/^\| ([^|]+?) *\|/gm)].map(([, cell]) => cell!).slice(2);
  return new Set(
    rows.flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, word]) => word!.toLowerCase())),
  );
}

/** Names of fields that are on the wire or on disk, in the files that read and write them. */
const storedNames: Readonly<Record<string, readonly string[]>> = {
  'server/audit/audit-observer.ts': ['asked'],
  'server/audit/lost-tunnels.ts': ['asked'],
  'server/commands/doctor.ts': ['verdict'],
  'server/login/authorization-server/grants.ts': ['told'],
  'server/login/pages/consent-routes.ts': ['told'],
  'server/login/upstream/revalidation.ts': ['askedAt'],
  'server/web/discovery.ts': ['leastClient'],
};

/** Rule 2: no identifier has a word that the glossary has retired. */
export function namesAreCurrent(retired: ReadonlySet<string>): Rule {
  return (files) =>
    files.flatMap(({ file, identifiers }) =>
      [...identifiers]
        .filter((name) => !storedNames[file]?.includes(name))
        .filter((name) => {
          const words = wordsOf(name);
          return words.some(
            (word, index) => retired.has(word) || retired.has(word + (words[index + 1] ?? ' ')),
          );
        })
        .map((name) => `${file}: ${name}`),
    );
}

function wordsOf(name: string): readonly string[] {
  // Codes are words of the wire.
  if (/^[A-Z\d_]+$/.test(name)) return [];
  return name
    .replaceAll(/([a-z\d])([A-Z])/g, '$1 $2')
    .toLowerCase()
    .split(/[\s_$]+/);
}

/** Rule 3: an exported type name exists once. */
export const typeNamesAreUnique: Rule = (files) => {
  const places = files.flatMap(({ file, code }) =>
    [...code.matchAll(/^export (?:declare )?(?:abstract )?(?:interface|type|class) (\w+)/gm)].map(
      ([, name]) => ({ name: name!, file }),
    ),
  );
  return [...Map.groupBy(places, ({ name }) => name)]
    .filter(([, found]) => found.length > 1)
    .map(([name, found]) => `${name}: ${found.map(({ file }) => file).join(', ')}`);
};

/**
 * The rooms of each program from the ground up; a room imports rooms of lower floors, of its own floor only where the
 * floor is one room.
 */
export interface Floors {
  readonly [top: string]: readonly (readonly string[])[];
}

/** Rule 4: rooms import downwards only, types included. */
export function importsGoDown(floors: Floors): Rule {
  const floorOf = (file: string): { readonly room: string; readonly floor: number } | undefined => {
    const [top, room] = file.split('/') as [string, string];
    const floor = floors[top]?.findIndex((rooms) => rooms.includes(room)) ?? -1;
    return floor === -1 ? undefined : { room: `${top}/${room}`, floor };
  };
  return (files) =>
    files.flatMap(({ file, imports }) => {
      const top = file.split('/')[0]!;
      const here = floorOf(file);
      if (here === undefined) return floors[top] ? [`${file} is in a room without a floor`] : [];
      return imports
        .filter((name) => name.startsWith(`${top}/`))
        .filter((name) => {
          const there = floorOf(name);
          return there !== undefined && there.room !== here.room && there.floor >= here.floor;
        })
        .map((name) => `${file} → ${name}`);
    });
}

/** Between the tops: each imports itself and those that come before it, and the two programs never each other. */
export const topsImportDown: Rule = (files) =>
  files.flatMap(({ file, imports }) => {
    const own = topOf(file);
    const allowed = tops.slice(0, Math.min(tops.indexOf(own), tops.indexOf('server')));
    return imports
      .filter((name) => (tops as readonly string[]).includes(name.split('/')[0]!) && name.endsWith('.ts'))
      .filter((name) => topOf(name) !== own && !allowed.includes(topOf(name)))
      .map((name) => `${file} → ${name}`);
  });

function topOf(file: string): (typeof tops)[number] {
  return file.split('/')[0] as (typeof tops)[number];
}

const maxLines = 300;
const minLines = 15;
/** Where each thing has a file of its own, however short: one helper, one entry. */
const oneThingFolders = ['base', 'client/entry', 'server/entry'];

/** Rule 5: no file over 300 lines, and none under 15 but interfaces. */
export const filesAreOfOneSize: Rule = (files) =>
  files.flatMap(({ file, text, code }) => {
    const lines = text.trimEnd().split('\n').length;
    if (lines > maxLines) return [`${file}: ${lines} lines`];
    const onlyTypes = !/^(?:export )?(?:async )?(?:function|class|const|let|abstract class)\b/m.test(code);
    if (oneThingFolders.includes(dirname(file))) return [];
    return lines < minLines && !onlyTypes ? [`${file}: ${lines} lines`] : [];
  });

/** What Node.js and ws do not document: fields with an underscore, handles, `onread`, symbols of a stream's state. */
const internals =
  /\.\s*_(?!_)[a-z]\w*|\[['"]_[a-z]\w*['"]\]|\b_createServerHandle\b|\bonread\b|\bprocess\.binding\b|\bkHandle\b|\bgetOwnPropertySymbols\b/;
/** Methods that a stream implements are named with an underscore by Node.js itself. */
const streamMethods = /\b_(?:read|write|writev|final|destroy|construct|transform|flush)\b/g;

/** Rule 6: Node's internals only in `stream/zero-copy/` and `server/listener/bound-socket.ts`. */
export const internalsHaveOneRoom: Rule = (files) =>
  files
    .filter(({ file }) => !file.startsWith('stream/zero-copy/') && file !== 'server/listener/bound-socket.ts')
    .flatMap(({ file, code }) => {
      const found = internals.exec(code.replaceAll(streamMethods, 'method'));
      return found ? [`${file}: ${found[0]}`] : [];
    });

/** Each of these has one home: what must be called instead of written again. */
const homes: readonly (readonly [found: RegExp, home: string])[] = [
  [/addEventListener\(\s*'abort'/, 'base/deadline.ts'],
  [/\btimingSafeEqual\b/, 'base/constant-time.ts'],
  // Fastify's reading of the client's address is another one than that of tunnels.
  [/\brequest\.ips?\b|\btrustProxy\b/, 'server/http/client-address.ts'],
  // Its error names the option that was meant.
  [/\bparseArgs\b[^;]*from 'node:util'/, 'base/parse-args.ts'],
  // It never returns below a directory such as /proc.
  [/\bmkdir(?:Sync)?\([^;]*\brecursive\b/, 'client/os/files.ts'],
];

/** Rule 7: one deadline helper, nothing else listens to signals; one comparison in constant time; one reader of options; one way to make directories. */
export const helpersHaveOneHome: Rule = (files) =>
  files.flatMap(({ file, code }) =>
    homes
      .filter(([found, home]) => file !== home && found.test(code))
      .map(([, home]) => `${file}: see ${home}`),
  );

/** Rule 8: actors have names. */
export const actorsHaveNames: Rule = (files) =>
  files.flatMap(({ file, comments }) => {
    const found = /\b(?:somebody|nobody|whoever|anybody|everybody)\b/i.exec(comments);
    const subject = /\/\*\*\s*(?:\*\s*)?(?:Who|Whom|Whose)\b/.exec(comments);
    return [found, subject].filter((match) => match !== null).map(([word]) => `${file}: ${word}`);
  });
