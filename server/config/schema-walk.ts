import { z } from 'zod';
import type { SettingMeta } from './setting-types.ts';
import type { SettingPath } from './yaml-document.ts';

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
