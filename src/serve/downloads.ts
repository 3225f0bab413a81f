import { randomBytes } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import type { Door } from '../app/door/door.js';
import { storedZip } from './zip.js';

/** One file ready to be fetched once. */
export interface Download {
  name: string;
  type: string;
  bytes: number;
  open(): Readable;
}

export interface Downloads {
  /** Makes a file ready and answers the address it can be fetched from, once. */
  offer(jobId: string, what: 'model' | 'report-json' | 'report-html'): Promise<{ url: string }>;
  /** The download behind an id; it is gone afterwards. */
  take(id: string): Download | null;
}

export function createDownloads(door: Door): Downloads {
  const ready = new Map<string, Download>();
  return {
    async offer(jobId, what) {
      const id = randomBytes(16).toString('hex');
      ready.set(id, await prepare(door, jobId, what));
      return { url: `/api/download/${id}` };
    },
    take(id) {
      const found = ready.get(id) ?? null;
      ready.delete(id);
      return found;
    },
  };
}

async function prepare(door: Door, jobId: string, what: 'model' | 'report-json' | 'report-html'): Promise<Download> {
  const { path: model, json, html } = door.output(jobId);
  const stem = path.basename(model, '.onnx');
  if (what === 'report-json') {
    return text(`${stem}.report.json`, 'application/json', json);
  }
  if (what === 'report-html') return text(`${stem}.report.html`, 'text/html; charset=utf-8', html ?? '');
  // A model and its data file belong together; beside them may lie what is none of theirs.
  const files = [model, `${model}.data`].filter((file) => existsSync(file));
  if (files.length > 1) {
    const zip = await storedZip(files.map((file) => ({ path: file, name: path.basename(file) })));
    return {
      name: `${stem}.zip`,
      type: 'application/zip',
      bytes: zip.bytes,
      open: () => Readable.from(zip.chunks(), { objectMode: false }),
    };
  }
  return {
    name: path.basename(model),
    type: 'application/octet-stream',
    bytes: (await stat(model)).size,
    open: () => createReadStream(model, { highWaterMark: 1 << 20 }),
  };
}

function text(name: string, type: string, content: string): Download {
  const body = Buffer.from(content);
  return { name, type, bytes: body.length, open: () => Readable.from([body]) };
}

/** `Content-Disposition` for any file name (RFC 6266, RFC 8187): an ASCII fallback and the exact UTF-8 name. */
export function contentDisposition(name: string): string {
  const ascii = name.replace(/[^\x20-\x7e]|["\\%]/gu, '_');
  const exact = encodeURIComponent(name).replace(
    /['()*]/gu,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `attachment; filename="${ascii}"; filename*=UTF-8''${exact}`;
}
