#!/usr/bin/env node
/**
 * Reads the fuses of a packaged program back from its bytes and fails when one is not as decided:
 * `node build/check-fuses.js dist/linux-unpacked/snug-desktop`.
 * Layout (electron/fuses): a sentinel, one byte of version, one byte of length, then one character per fuse:
 * `0` off, `1` on, `r` removed.
 */
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const sentinel = Buffer.from('dL7pKGdnNz796PbbjQWNKmHXBZaB9tsX');

/** Fuses in the order of the wire, with what Snug decided. */
const expected = [
  ['RunAsNode', '0'],
  ['EnableCookieEncryption', '1'],
  ['EnableNodeOptionsEnvironmentVariable', '0'],
  ['EnableNodeCliInspectArguments', '0'],
  ['EnableEmbeddedAsarIntegrityValidation', '1'],
  ['OnlyLoadAppFromAsar', '1'],
  ['LoadBrowserProcessSpecificV8Snapshot', '0'],
  ['GrantFileProtocolExtraPrivileges', '0'],
];

/**
 * @param {Buffer} program
 * @returns {string[]} one line per fuse that is not as decided; empty when all are
 */
export function wrongFuses(program) {
  const at = program.indexOf(sentinel);
  if (at < 0) return ['this program carries no fuses'];
  const problems = [];
  // A universal macOS program carries one wire per architecture.
  for (let start = at; start >= 0; start = program.indexOf(sentinel, start + 1)) {
    const wire = program.subarray(start + sentinel.length);
    if (wire[0] !== 1) return [`unknown fuse version ${wire[0]}`];
    expected.forEach(([name, value], index) => {
      const found = index < wire[1] ? String.fromCharCode(wire[2 + index]) : 'absent';
      if (found !== value) problems.push(`${name} is ${found}, not ${value}`);
    });
  }
  return problems;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const file = process.argv[2];
  if (!file) {
    console.error('usage: node build/check-fuses.js PROGRAM');
    process.exit(2);
  }
  const problems = wrongFuses(readFileSync(file));
  console.log(problems.length === 0 ? 'fuses: all as decided' : `fuses: ${problems.join('; ')}`);
  process.exit(problems.length === 0 ? 0 : 1);
}
