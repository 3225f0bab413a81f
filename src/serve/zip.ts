import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import zlib from 'node:zlib';

/**
 * A .zip that stores files as they are: weights hardly compress, and a model with external data must arrive as
 * one download. Always in the ZIP64 form (APPNOTE.TXT 4.3.14, 4.5.3), since the data may exceed 4 GiB. Sizes
 * and checksums are worked out in a first pass, so the length of the answer is known and readers need no
 * trailing descriptors.
 */
export interface StoredZip {
  bytes: number;
  chunks(): AsyncGenerator<Buffer>;
}

interface Entry {
  path: string;
  name: Buffer;
  size: number;
  crc: number;
  offset: number;
}

export async function storedZip(files: { path: string; name: string }[]): Promise<StoredZip> {
  const entries: Entry[] = [];
  let offset = 0;
  for (const file of files) {
    const name = Buffer.from(file.name);
    const { size } = await stat(file.path);
    const entry = { path: file.path, name, size, crc: await crcOf(file.path), offset };
    entries.push(entry);
    offset += localHeader(entry).length + size;
  }
  const tail = Buffer.concat([...entries.map(centralHeader), endRecords(entries, offset)]);
  return {
    bytes: offset + tail.length,
    async *chunks() {
      for (const entry of entries) {
        yield localHeader(entry);
        for await (const chunk of createReadStream(entry.path, { highWaterMark: 1 << 20 })) yield chunk as Buffer;
      }
      yield tail;
    },
  };
}

async function crcOf(file: string): Promise<number> {
  let crc = 0;
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) crc = zlib.crc32(chunk as Buffer, crc);
  return crc;
}

/** Version 4.5 (ZIP64), UTF-8 names, method 0 (stored), 1980-01-01 so that equal input gives equal bytes. */
const versionNeeded = 45;
const utf8Flag = 0x0800;
const dosDate = 0x0021;
const seeZip64 = 0xffffffff;

/** CRC, the two 32-bit sizes (in ZIP64 extra), name and extra lengths: the same run of fields in both headers. */
function writeCommon(header: Buffer, at: number, entry: Entry, extraLength: number): void {
  header.writeUInt16LE(versionNeeded, at);
  header.writeUInt16LE(utf8Flag, at + 2);
  header.writeUInt16LE(dosDate, at + 8);
  header.writeUInt32LE(entry.crc, at + 10);
  header.writeUInt32LE(seeZip64, at + 14);
  header.writeUInt32LE(seeZip64, at + 18);
  header.writeUInt16LE(entry.name.length, at + 22);
  header.writeUInt16LE(extraLength, at + 24);
}

/** Extra field 0x0001: 64-bit sizes, and in the central directory the offset too. */
function zip64Extra(values: number[]): Buffer {
  const extra = Buffer.alloc(4 + 8 * values.length);
  extra.writeUInt16LE(1, 0);
  extra.writeUInt16LE(8 * values.length, 2);
  values.forEach((value, index) => extra.writeBigUInt64LE(BigInt(value), 4 + 8 * index));
  return extra;
}

function localHeader(entry: Entry): Buffer {
  const extra = zip64Extra([entry.size, entry.size]);
  const header = Buffer.alloc(30);
  header.writeUInt32LE(0x04034b50, 0);
  writeCommon(header, 4, entry, extra.length);
  return Buffer.concat([header, entry.name, extra]);
}

function centralHeader(entry: Entry): Buffer {
  const extra = zip64Extra([entry.size, entry.size, entry.offset]);
  const header = Buffer.alloc(46);
  header.writeUInt32LE(0x02014b50, 0);
  header.writeUInt16LE(versionNeeded, 4);
  writeCommon(header, 6, entry, extra.length);
  header.writeUInt32LE(seeZip64, 42);
  return Buffer.concat([header, entry.name, extra]);
}

function endRecords(entries: Entry[], start: number): Buffer {
  const directoryBytes = entries.reduce((sum, entry) => sum + centralHeader(entry).length, 0);
  const end = Buffer.alloc(56 + 20 + 22);
  end.writeUInt32LE(0x06064b50, 0);
  end.writeBigUInt64LE(44n, 4);
  end.writeUInt16LE(versionNeeded, 12);
  end.writeUInt16LE(versionNeeded, 14);
  end.writeBigUInt64LE(BigInt(entries.length), 24);
  end.writeBigUInt64LE(BigInt(entries.length), 32);
  end.writeBigUInt64LE(BigInt(directoryBytes), 40);
  end.writeBigUInt64LE(BigInt(start), 48);
  end.writeUInt32LE(0x07064b50, 56);
  end.writeBigUInt64LE(BigInt(start + directoryBytes), 64);
  end.writeUInt32LE(1, 72);
  end.writeUInt32LE(0x06054b50, 76);
  end.writeUInt16LE(0xffff, 84);
  end.writeUInt16LE(0xffff, 86);
  end.writeUInt32LE(seeZip64, 88);
  end.writeUInt32LE(seeZip64, 92);
  return end;
}
