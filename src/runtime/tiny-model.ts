/** Protobuf length-delimited field. All lengths here are below 128, so one byte holds each of them. */
function field(number: number, content: Uint8Array | string): Uint8Array {
  const bytes = typeof content === 'string' ? new TextEncoder().encode(content) : content;
  return Uint8Array.of((number << 3) | 2, bytes.length, ...bytes);
}

function varint(number: number, value: number): Uint8Array {
  return Uint8Array.of(number << 3, value);
}

function join(...parts: Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

/** ValueInfoProto of a float tensor `[4]`. */
function valueInfo(name: string): Uint8Array {
  const shape = field(1, varint(1, 4));
  const tensor = join(varint(1, 1), field(2, shape));
  return join(field(1, name), field(2, field(1, tensor)));
}

/**
 * The smallest model every provider can run: `y = Relu(x)`, x float32 `[4]`, opset 13. It shows whether a
 * provider works at all, and what the provider costs before any model of the user's is loaded.
 */
export function tinyModel(): Uint8Array {
  const node = join(field(1, 'x'), field(2, 'y'), field(4, 'Relu'));
  const graph = join(field(1, node), field(2, 'tiny'), field(11, valueInfo('x')), field(12, valueInfo('y')));
  return join(varint(1, 8), field(8, varint(2, 13)), field(7, graph));
}
