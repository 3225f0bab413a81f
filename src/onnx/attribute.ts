import { malformed } from './failures.js';
import type { Attribute, Node, Tensor } from './model.js';

export const intAttribute = (value: number): Attribute => ({ type: 'int', value });
export const floatAttribute = (value: number): Attribute => ({ type: 'float', value });
export const stringAttribute = (value: string): Attribute => ({
  type: 'string',
  value: new TextEncoder().encode(value),
});
export const intsAttribute = (value: readonly number[]): Attribute => ({ type: 'ints', value });
export const tensorAttribute = (value: Tensor): Attribute => ({ type: 'tensor', value });

function typed<T extends Attribute['type']>(node: Node, name: string, type: T): Extract<Attribute, { type: T }> | null {
  const attribute = node.attributes.get(name);
  if (attribute === undefined || attribute.type === 'opaque') return null;
  if (attribute.type !== type) {
    throw malformed(`attribute "${name}" of ${node.opType} "${node.name}" is ${attribute.type}, not ${type}.`);
  }
  return attribute as Extract<Attribute, { type: T }>;
}

/** INT attribute, or `fallback` when absent. @throws SnugError E_MALFORMED when it has another type. */
export function getInt(node: Node, name: string, fallback: number): number {
  return typed(node, name, 'int')?.value ?? fallback;
}

/** INTS attribute, or `fallback`. Same error as {@link getInt}. */
export function getInts<T>(node: Node, name: string, fallback: T): readonly number[] | T {
  return typed(node, name, 'ints')?.value ?? fallback;
}

/** FLOAT attribute, or `fallback`. Same error as {@link getInt}. */
export function getFloat(node: Node, name: string, fallback: number): number {
  return typed(node, name, 'float')?.value ?? fallback;
}

/** STRING attribute as text, or `fallback`. Same error as {@link getInt}. */
export function getString(node: Node, name: string, fallback: string): string {
  const attribute = typed(node, name, 'string');
  return attribute === null ? fallback : Buffer.from(attribute.value).toString('utf8');
}

/** TENSOR attribute, or null. Same error as {@link getInt}. */
export function getTensor(node: Node, name: string): Tensor | null {
  return typed(node, name, 'tensor')?.value ?? null;
}
