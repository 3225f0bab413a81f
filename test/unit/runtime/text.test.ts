import fc from 'fast-check';
import { expect, it } from 'vitest';
import { cutPlace, longestLine } from '../../../src/runtime/text.js';

/** What reading a text in pieces leaves waiting at most, and the parts it is cut into. */
function parts(text: string, piece: number): { parts: string[]; most: number } {
  const found: string[] = [];
  let [rest, most] = ['', 0];
  for (let at = 0; at < text.length; at += piece) {
    const joined = rest + text.slice(at, at + piece);
    const cut = cutPlace(joined);
    if (cut > 0) found.push(joined.slice(0, cut));
    rest = joined.slice(cut);
    most = Math.max(most, rest.length);
  }
  return { parts: [...found, rest], most };
}

it('holds no more than a long line of a text without line ends, and loses nothing of it', () => {
  for (const unit of ['x', 'word ', '😀']) {
    const text = unit.repeat(Math.ceil((3 * longestLine) / unit.length));
    const cut = parts(text, 65_537);
    expect(cut.parts.join('')).toBe(text);
    expect(cut.most).toBeLessThan(longestLine);
    expect(cut.parts.length).toBeGreaterThan(2);
  }
});

it('cuts at line ends, and never inside a character', () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom('a', ' ', '\n', '😀'), maxLength: 60 }), (text) => {
      const cut = cutPlace(text);
      expect(cut === 0 || text[cut - 1] === '\n').toBe(true);
    }),
  );
  for (let shift = 0; shift < 2; shift++) {
    const text = `${'y'.repeat(longestLine - shift)}😀`.slice(0, longestLine + 1 - shift);
    const cut = cutPlace(text);
    expect(text.charCodeAt(cut - 1) & 0xfc00).not.toBe(0xd800);
  }
});
