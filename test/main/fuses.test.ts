import { expect, it } from 'vitest';
import { wrongFuses } from '../../build/check-fuses.js';

const program = (wire: string, version = '\u0001') =>
  Buffer.from(
    `code dL7pKGdnNz796PbbjQWNKmHXBZaB9tsX${version}${String.fromCharCode(wire.length)}${wire} more`,
    'latin1',
  );

it('accepts the fuses as decided, and new ones after them', () => {
  expect(wrongFuses(program('01001100'))).toEqual([]);
  expect(wrongFuses(program('010011001'))).toEqual([]);
});

it('names every fuse that is not as decided, in every architecture of the program', () => {
  expect(wrongFuses(program('11001100'))).toEqual(['RunAsNode is 1, not 0']);
  expect(wrongFuses(program('0100110'))).toEqual(['GrantFileProtocolExtraPrivileges is absent, not 0']);
  expect(wrongFuses(Buffer.concat([program('01001100'), program('0100r100')]))).toEqual([
    'EnableEmbeddedAsarIntegrityValidation is r, not 1',
  ]);
  expect(wrongFuses(Buffer.from('no wire'))).toEqual(['this program carries no fuses']);
  expect(wrongFuses(program('01001100', '\u0002'))).toEqual(['unknown fuse version 2']);
});
