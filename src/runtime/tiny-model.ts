/** Protobuf length-delimited field; lengths are below 2^14. */
function field(number: number, content: Uint8Array | string): Uint8Array {
  const bytes = typeof content === 'string' ? new TextEncoder().encode(content) : content;
  const length = bytes.length < 128 ? [bytes.length] : [(bytes.length & 127) | 128, bytes.length >> 7];
  return Uint8Array.of((number << 3) | 2, ...length, ...bytes);
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
 * WebGPU sends its work to the device every 16 nodes; from then on the parameters of further nodes pass through a ring
 * of 4 MiB, which the device then keeps.
 */
const nodeCount = 40;

/**
 * A model every provider can run: `y = Relu(…Relu(x))`, x float32 `[4]`, opset 13. It shows whether a provider works
 * at all, and what the device itself holds once it is in use, before any model of the user's is loaded.
 */
export function tinyModel(): Uint8Array {
  const value = (index: number) => (index === 0 ? 'x' : index === nodeCount ? 'y' : `v${index}`);
  const nodes = Array.from({ length: nodeCount }, (_, index) =>
    field(1, join(field(1, value(index)), field(2, value(index + 1)), field(4, 'Relu'))),
  );
  const graph = join(...nodes, field(2, 'tiny'), field(11, valueInfo('x')), field(12, valueInfo('y')));
  return join(varint(1, 8), field(8, varint(2, 13)), field(7, graph));
}
