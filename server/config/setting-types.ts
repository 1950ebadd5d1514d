import { z } from 'zod';

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
