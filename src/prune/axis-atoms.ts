/**
 * Axes as trees of atoms. The axis of a tensor starts as one atom; operators that make two axes the same unite
 * atoms (union-find), Reshape splits an atom into an ordered product (outer factor first), Concat, Split and Slice
 * into a concatenation. What is left as a leaf is the smallest thing that can be removed on its own, wherever it
 * occurs; a leaf that any operator forbids to change carries the reason.
 */
export interface Atom {
  readonly id: number;
  readonly size: number;
  /** Set once the atom was united with another one. */
  link: Atom | null;
  form: 'leaf' | 'product' | 'concat';
  parts: Atom[];
  /** Why this axis must keep its size; null while nothing forbids it. */
  blocked: string | null;
}

export class AxisAtoms {
  #next = 0;

  /** A new axis of `size`. */
  fresh(size: number): Atom {
    return { id: this.#next++, size, link: null, form: 'leaf', parts: [], blocked: null };
  }

  /** The axis that lays `parts` end to end. */
  concat(parts: readonly Atom[]): Atom {
    if (parts.length === 1) return parts[0]!;
    const atom = this.fresh(parts.reduce((sum, part) => sum + part.size, 0));
    atom.form = 'concat';
    atom.parts = [...parts];
    return atom;
  }

  /** The axis whose index runs over `parts` row-major (first part outermost). */
  product(parts: readonly Atom[]): Atom {
    const real = parts.filter((part) => part.size !== 1);
    if (real.length === 1) return real[0]!;
    const atom = this.fresh(real.reduce((product, part) => product * part.size, 1));
    if (real.length > 1) {
      atom.form = 'product';
      atom.parts = real;
    }
    return atom;
  }

  /** Forbids any change to this axis. The first reason stays. */
  block(atom: Atom, reason: string): void {
    for (const leaf of leavesOf(atom)) leaf.blocked ??= reason;
  }

  /** States that two axes are the same. Axes whose structures do not fit together are blocked. */
  unite(first: Atom, second: Atom): void {
    const a = rootOf(first);
    const b = rootOf(second);
    if (a === b) return;
    if (a.size !== b.size) {
      this.#blockAll([a, b], 'sizes that do not match');
    } else if (a.form === 'leaf') {
      this.#link(a, b);
    } else if (b.form === 'leaf') {
      this.#link(b, a);
    } else if (a.form === 'product' && b.form === 'product') {
      this.uniteRowMajor([a], [b]);
    } else if (a.form === 'concat' && b.form === 'concat') {
      this.#uniteConcats(a, b);
    } else {
      const [product, concat] = a.form === 'product' ? [a, b] : [b, a];
      const [outer, ...rest] = product.parts.map(rootOf);
      if (!this.#uniteRepeated(concat, outer!, rest)) {
        this.#blockAll([a, b], 'an axis that is both split and regrouped');
      }
    }
  }

  /**
   * Equal pieces laid end to end are a product (number of pieces, piece): the pieces become one axis and their
   * number fixed. False when `concat` has no such pieces.
   */
  #uniteRepeated(concat: Atom, count: Atom, piece: readonly Atom[]): boolean {
    const size = concat.size / count.size;
    const pieces: Atom[] = [];
    const open = [...concat.parts];
    let gathered: Atom[] = [];
    let sum = 0;
    for (let part = open.shift(); part !== undefined; part = open.shift()) {
      const root = rootOf(part);
      if (root.form === 'concat' && sum + root.size > size) {
        open.unshift(...root.parts);
        continue;
      }
      gathered.push(root);
      sum += root.size;
      if (sum > size) return false;
      if (sum < size) continue;
      pieces.push(this.concat(gathered));
      [gathered, sum] = [[], 0];
    }
    if (pieces.length !== count.size) return false;
    this.block(count, 'an axis that is both split and regrouped');
    const [first, ...others] = pieces;
    for (const other of others) this.unite(first!, other);
    this.unite(first!, this.product(piece));
    return true;
  }

  /**
   * States that two lists of axes enumerate the same elements row-major: what Reshape, Flatten, Squeeze and
   * Unsqueeze say. Atoms are split into factors where one list is finer than the other.
   */
  uniteRowMajor(first: readonly Atom[], second: readonly Atom[]): void {
    const left = flatten(first);
    const right = flatten(second);
    while (left.length > 0 && right.length > 0) {
      const a = rootOf(left[0]!);
      const b = rootOf(right[0]!);
      if (a.size === b.size) {
        this.unite(a, b);
        left.shift();
        right.shift();
      } else if (
        !this.#splitOuter(left, b.size) &&
        !this.#splitOuter(right, a.size) &&
        !this.#splitRepeated(left, b) &&
        !this.#splitRepeated(right, a)
      ) {
        break;
      }
    }
    // Anything left over means sizes that do not factor (or are zero): nothing here may change.
    this.#blockAll([...left, ...right], 'a reshape that mixes axes');
  }

  /** Replaces the first atom of `list` by (outer, rest) when it is a leaf divisible by `outer`. */
  #splitOuter(list: Atom[], outer: number): boolean {
    const atom = rootOf(list[0]!);
    // The atom may have been split since the list was made.
    if (atom.form === 'product') {
      list.splice(0, 1, ...flatten([atom]));
      return true;
    }
    if (atom.size <= outer || outer <= 1 || atom.size % outer !== 0) return false;
    if (atom.form !== 'leaf') return false;
    const parts = [this.fresh(outer), this.fresh(atom.size / outer)];
    this.#refine(atom, 'product', parts);
    list.splice(0, 1, ...parts);
    return true;
  }

  /** Replaces a concatenation of `count` equal pieces at the front of `list` by (count, piece). */
  #splitRepeated(list: Atom[], count: Atom): boolean {
    const atom = rootOf(list[0]!);
    if (atom.form !== 'concat' || atom.size % count.size !== 0 || count.size < 2) return false;
    const piece = this.fresh(atom.size / count.size);
    if (!this.#uniteRepeated(atom, count, [piece])) return false;
    list.splice(0, 1, count, ...flatten([piece]));
    return true;
  }

  #uniteConcats(a: Atom, b: Atom): void {
    const left = a.parts.map(rootOf);
    const right = b.parts.map(rootOf);
    while (left.length > 0 && right.length > 0) {
      const one = rootOf(left[0]!);
      const other = rootOf(right[0]!);
      if (one.form === 'concat') {
        left.splice(0, 1, ...one.parts);
      } else if (other.form === 'concat') {
        right.splice(0, 1, ...other.parts);
      } else if (one.size === other.size) {
        this.unite(one, other);
        left.shift();
        right.shift();
      } else if (!this.#splitFront(left, other.size) && !this.#splitFront(right, one.size)) {
        break;
      }
    }
    this.#blockAll([...left, ...right], 'an axis that is both split and regrouped');
  }

  #splitFront(list: Atom[], front: number): boolean {
    const atom = rootOf(list[0]!);
    if (atom.form !== 'leaf' || atom.size <= front) return false;
    const parts = [this.fresh(front), this.fresh(atom.size - front)];
    this.#refine(atom, 'concat', parts);
    list.splice(0, 1, ...parts);
    return true;
  }

  #refine(leaf: Atom, form: 'product' | 'concat', parts: Atom[]): void {
    leaf.form = form;
    leaf.parts = parts;
    if (leaf.blocked !== null) this.block(leaf, leaf.blocked);
  }

  #link(leaf: Atom, target: Atom): void {
    leaf.link = target;
    if (leaf.blocked !== null) this.block(target, leaf.blocked);
  }

  #blockAll(atoms: readonly Atom[], reason: string): void {
    for (const atom of atoms) this.block(atom, reason);
  }
}

/** The atom that stands for this one after all unions. */
export function rootOf(atom: Atom): Atom {
  let root = atom;
  while (root.link !== null) root = root.link;
  for (let at = atom; at.link !== null && at.link !== root;) {
    const next: Atom = at.link;
    at.link = root;
    at = next;
  }
  return root;
}

/** The leaves below an axis, outermost (or first) first; a leaf may occur more than once. */
export function leavesOf(atom: Atom): Atom[] {
  const root = rootOf(atom);
  return root.form === 'leaf' ? [root] : root.parts.flatMap(leavesOf);
}

/** Kept units by leaf id; leaves not named keep everything. */
export type KeptUnits = ReadonlyMap<number, readonly number[]>;

/** Indices along the whole axis that stay, in order. */
export function keptIndices(atom: Atom, kept: KeptUnits): number[] {
  const root = rootOf(atom);
  if (root.form === 'leaf') return [...(kept.get(root.id) ?? Array.from({ length: root.size }, (_, i) => i))];
  if (root.form === 'concat') {
    let offset = 0;
    return root.parts.flatMap((part) => {
      const indices = keptIndices(part, kept).map((index) => index + offset);
      offset += rootOf(part).size;
      return indices;
    });
  }
  return root.parts.reduce<number[]>(
    (outer, part) => {
      const inner = keptIndices(part, kept);
      const { size } = rootOf(part);
      return outer.flatMap((index) => inner.map((i) => index * size + i));
    },
    [0],
  );
}

/** Size of the axis once only `kept` units are left. */
export function keptSize(atom: Atom, kept: KeptUnits): number {
  const root = rootOf(atom);
  if (root.form === 'leaf') return kept.get(root.id)?.length ?? root.size;
  const sizes = root.parts.map((part) => keptSize(part, kept));
  return root.form === 'concat' ? sizes.reduce((a, b) => a + b, 0) : sizes.reduce((a, b) => a * b, 1);
}

/** Where one leaf occurs in an axis: index of unit u is `offset + o·outerStride + u·inner + i`, o < outer, i < inner. */
export interface AxisSegment {
  offset: number;
  outer: number;
  outerStride: number;
  inner: number;
}

/** All occurrences of `leaf` in `atom`, in closed form. */
export function segmentsOf(atom: Atom, leaf: Atom): AxisSegment[] {
  const root = rootOf(atom);
  if (root === leaf) return [{ offset: 0, outer: 1, outerStride: root.size, inner: 1 }];
  if (root.form === 'concat') {
    let offset = 0;
    return root.parts.flatMap((part) => {
      const found = segmentsOf(part, leaf).map((segment) => ({ ...segment, offset: segment.offset + offset }));
      offset += rootOf(part).size;
      return found;
    });
  }
  if (root.form === 'leaf') return [];
  const sizes = root.parts.map((part) => rootOf(part).size);
  return root.parts.flatMap((part, at) => {
    const outer = sizes.slice(0, at).reduce((a, b) => a * b, 1);
    const inner = sizes.slice(at + 1).reduce((a, b) => a * b, 1);
    const stride = sizes[at]! * inner;
    return segmentsOf(part, leaf).flatMap((segment) => {
      const scaled = { offset: segment.offset * inner, inner: segment.inner * inner };
      if (segment.outer === 1) return [{ ...scaled, outer, outerStride: stride }];
      // A leaf nested in two repeated groups: spell the outer repetitions out.
      return Array.from({ length: outer }, (_, o) => ({
        offset: scaled.offset + o * stride,
        outer: segment.outer,
        outerStride: segment.outerStride * inner,
        inner: scaled.inner,
      }));
    });
  });
}

/** Every index along the axis that belongs to `unit`. */
export function unitIndices(segments: readonly AxisSegment[], unit: number): number[] {
  return segments.flatMap(({ offset, outer, outerStride, inner }) =>
    Array.from(
      { length: outer * inner },
      (_, at) => offset + Math.floor(at / inner) * outerStride + unit * inner + (at % inner),
    ),
  );
}

function flatten(atoms: readonly Atom[]): Atom[] {
  return atoms.flatMap((atom): Atom[] => {
    const root = rootOf(atom);
    if (root.form === 'product') return flatten(root.parts);
    return root.size === 1 ? [] : [root];
  });
}
