import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  AxisAtoms,
  keptIndices,
  keptSize,
  leavesOf,
  rootOf,
  segmentsOf,
  unitIndices,
  type Atom,
} from '../../../src/prune/axis-atoms.js';

const blocked = (atom: Atom): (string | null)[] => leavesOf(atom).map((leaf) => leaf.blocked);

describe('axis atoms', () => {
  it('splits an axis a reshape refines, everywhere it occurs', () => {
    const atoms = new AxisAtoms();
    const [width, elsewhere] = [atoms.fresh(768), atoms.fresh(768)];
    atoms.unite(width, elsewhere);
    const [heads, size] = [atoms.fresh(12), atoms.fresh(64)];
    atoms.uniteRowMajor([atoms.fresh(2), width], [atoms.fresh(2), heads, size]);
    expect(leavesOf(elsewhere)).toEqual([rootOf(heads), rootOf(size)]);
    expect(blocked(elsewhere)).toEqual([null, null]);
  });

  it('joins channel and position when a convolution is flattened', () => {
    const atoms = new AxisAtoms();
    const [channels, position, flat] = [atoms.fresh(4), atoms.fresh(3), atoms.fresh(12)];
    atoms.uniteRowMajor([channels, position], [flat]);
    const leaf = rootOf(channels);
    expect(keptIndices(flat, new Map([[leaf.id, [0, 2]]]))).toEqual([0, 1, 2, 6, 7, 8]);
    expect(unitIndices(segmentsOf(flat, leaf), 2)).toEqual([6, 7, 8]);
  });

  it('blocks axes that do not factor, and carries blocks through unions and splits', () => {
    const atoms = new AxisAtoms();
    const [a, b] = [atoms.fresh(6), atoms.fresh(4)];
    atoms.uniteRowMajor([a, b], [atoms.fresh(4), atoms.fresh(6)]);
    expect(blocked(a)).toEqual(['a reshape that mixes axes']);
    expect(blocked(b)).toEqual(['a reshape that mixes axes']);

    const output = atoms.fresh(8);
    atoms.block(output, 'model output');
    const other = atoms.fresh(8);
    atoms.unite(other, output);
    atoms.uniteRowMajor([other], [atoms.fresh(2), atoms.fresh(4)]);
    expect(blocked(other)).toEqual(['model output', 'model output']);
  });

  it('treats sizes that cannot be equal as a reason to leave both alone', () => {
    const atoms = new AxisAtoms();
    const [a, b] = [atoms.fresh(3), atoms.fresh(5)];
    atoms.unite(a, b);
    expect([...blocked(a), ...blocked(b)].every((reason) => reason !== null)).toBe(true);
  });

  it('lines up concatenations with different cuts', () => {
    const atoms = new AxisAtoms();
    const [a, b, c, d] = [2, 4, 3, 3].map((size) => atoms.fresh(size)) as [Atom, Atom, Atom, Atom];
    const first = atoms.concat([a, b]);
    atoms.unite(first, atoms.concat([c, d]));
    expect(leavesOf(first).map((leaf) => leaf.size)).toEqual([2, 1, 3]);
    expect(leavesOf(c).map((leaf) => leaf.size)).toEqual([2, 1]);
  });

  it('closed form and tree walk name the same indices', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 2, max: 4 }), { minLength: 2, maxLength: 4 }),
        fc.nat(),
        fc.boolean(),
        (sizes, which, nested) => {
          const atoms = new AxisAtoms();
          const leaves = sizes.map((size) => atoms.fresh(size));
          const leaf = leaves[which % leaves.length]!;
          const inner = atoms.concat([atoms.fresh(3), leaf, atoms.fresh(2), leaf]);
          const axis = nested ? atoms.product([...leaves.slice(0, 2), inner, atoms.fresh(2)]) : atoms.product(leaves);
          for (let unit = 0; unit < leaf.size; unit++) {
            const others = Array.from({ length: leaf.size }, (_, i) => i).filter((i) => i !== unit);
            const kept = new Set(keptIndices(axis, new Map([[leaf.id, others]])));
            const gone = new Set(unitIndices(segmentsOf(axis, leaf), unit));
            const all = Array.from({ length: axis.size }, (_, i) => i);
            expect(all.filter((i) => !kept.has(i))).toEqual([...gone].sort((x, y) => x - y));
            expect(kept.size).toBe(keptSize(axis, new Map([[leaf.id, others]])));
          }
        },
      ),
    );
  });
});
