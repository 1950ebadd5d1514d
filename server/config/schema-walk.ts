import { z } from 'zod';
import type { SettingPath } from './yaml-document.ts';

/** The schema without what stands around it: a default, `optional`, a reader of text. */
export function plainSchema(schema: unknown): unknown {
  if (schema instanceof z.ZodPrefault || schema instanceof z.ZodOptional)
    return plainSchema(schema.def.innerType);
  return schema instanceof z.ZodPipe ? plainSchema(schema.def.in) : schema;
}

/** The schema of a setting; undefined when nothing is known by that path. */
export function schemaAt(schema: unknown, path: SettingPath): unknown {
  return path.reduce<unknown>((at, step) => childSchema(at, step), schema);
}

/** The keys that a setting may have; empty when it is not a section. */
export function keysOf(schema: unknown): readonly string[] {
  const plain = plainSchema(schema);
  return plain instanceof z.ZodObject ? Object.keys(plain.shape) : [];
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
  const shape: Readonly<Record<string, unknown>> = plain instanceof z.ZodObject ? plain.shape : {};
  return Object.hasOwn(shape, step) ? shape[step] : undefined;
}
