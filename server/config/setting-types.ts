import { z } from 'zod';
import type { SettingPath } from './yaml-document.ts';

/** Facts about a setting that its schema declares beside its type and default. */
export interface SettingMeta {
  /** The unit in `postern.yaml`, which also ends the key: `dialSeconds`. */
  readonly unit?: Unit;
  /**
   * Whether a reload takes a new value; `partly`: some of what it governs keeps the old one until a restart. Every key at
   * the top declares it, and the keys below inherit it. Of an optional section it says whether a reload can add or remove
   * the section.
   */
  readonly reload?: boolean | 'partly';
}

/** How much of the unit of the program (milliseconds or bytes) one of each unit of `postern.yaml` is. */
const units = {
  Seconds: { factor: 1000, internal: 'Ms' },
  Minutes: { factor: 60_000, internal: 'Ms' },
  Hours: { factor: 3_600_000, internal: 'Ms' },
  KiB: { factor: 1024, internal: 'Bytes' },
  MiB: { factor: 1024 * 1024, internal: 'Bytes' },
} as const;

export type Unit = keyof typeof units;

/** A number in a unit of `postern.yaml`, which becomes milliseconds or bytes. */
function inUnit(unit: Unit, numbers: z.ZodNumber = z.number().positive()) {
  return numbers.meta({ unit }).transform((value) => value * units[unit].factor);
}

export const seconds = (numbers?: z.ZodNumber) => inUnit('Seconds', numbers);
export const minutes = (numbers?: z.ZodNumber) => inUnit('Minutes', numbers);
export const hours = (numbers?: z.ZodNumber) => inUnit('Hours', numbers);
export const kib = (numbers: z.ZodNumber) => inUnit('KiB', numbers);
export const mib = (numbers: z.ZodNumber) => inUnit('MiB', numbers);

/** The name in the program of the key of `postern.yaml`: the same, but a unit at its end becomes that of the program. */
export type InternalName<Key> = Key extends
  `${infer Name}Seconds` | `${infer Name}Minutes` | `${infer Name}Hours`
  ? `${Name}Ms`
  : Key extends `${infer Name}KiB` | `${infer Name}MiB`
    ? `${Name}Bytes`
    : Key;

/** `dialSeconds` is `dialMs`, and `windowKiB` is `windowBytes`; every other key keeps its name. */
export function internalName(key: string): string {
  const unit = (Object.keys(units) as Unit[]).find((each) => key.endsWith(each));
  return unit === undefined ? key : key.slice(0, -unit.length) + units[unit].internal;
}

/** A section of the settings: no other keys than these, and those with a unit under their internal name. */
export function section<Shape extends z.ZodRawShape>(shape: Shape) {
  type Written = z.output<z.ZodObject<Shape>>;
  type Read = { [Key in keyof Written as InternalName<Key>]: Written[Key] };
  return z
    .strictObject(shape)
    .transform(
      (settings) =>
        Object.fromEntries(
          Object.entries(settings).map(([key, value]) => [internalName(key), value]),
        ) as Read,
    );
}

/** Text that `read` turns into its value; what `read` throws becomes a problem with that message. */
export function text<T>(read: (text: string) => T) {
  return z
    .string()
    .min(1)
    .max(2048)
    .transform((value, context): T => {
      try {
        return read(value);
      } catch (error) {
        context.addIssue({ code: 'custom', message: (error as Error).message });
        return z.NEVER;
      }
    });
}

/** The schema without its wrappers: a default, `optional`, a transform. */
export function plainSchema(schema: unknown): unknown {
  const inner = innerSchema(schema);
  return inner === undefined ? schema : plainSchema(inner);
}

/** The schema of a setting; undefined for an unknown path. */
export function schemaAt(schema: unknown, path: SettingPath): unknown {
  return path.reduce<unknown>((at, step) => childSchema(at, step), schema);
}

/** The schemas of a section's keys; undefined when the setting is not a section. */
export function sectionShape(schema: unknown): Readonly<Record<string, unknown>> | undefined {
  const plain = plainSchema(schema);
  return plain instanceof z.ZodObject ? plain.shape : undefined;
}

/** The keys that a setting can have; none when it is not a section. */
export function keysOf(schema: unknown): readonly string[] {
  return Object.keys(sectionShape(schema) ?? {});
}

/** The unit and the reload of a setting as its schema declares them, at any wrapper; the outermost counts. */
export function settingMeta(schema: unknown): SettingMeta {
  const inner = innerSchema(schema);
  const own = schema instanceof z.ZodType ? schema.meta() : undefined;
  return { ...(inner === undefined ? {} : settingMeta(inner)), ...own };
}

/** Whether the setting is written as text. */
export function isText(schema: unknown): boolean {
  const plain = plainSchema(schema);
  return plain instanceof z.ZodString || plain instanceof z.ZodEnum;
}

/** Whether the setting is a section whose keys the operator chooses. */
export function isRecord(schema: unknown): boolean {
  return plainSchema(schema) instanceof z.ZodRecord;
}

function childSchema(schema: unknown, step: string | number): unknown {
  const plain = plainSchema(schema);
  if (plain instanceof z.ZodArray) return plain.element;
  if (plain instanceof z.ZodRecord) return plain.valueType;
  const shape = sectionShape(plain) ?? {};
  return Object.hasOwn(shape, step) ? shape[step] : undefined;
}

/** The schema that a wrapper stands around. */
function innerSchema(schema: unknown): unknown {
  if (schema instanceof z.ZodPrefault || schema instanceof z.ZodExactOptional) return schema.def.innerType;
  return schema instanceof z.ZodPipe ? schema.def.in : undefined;
}
