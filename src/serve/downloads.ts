import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import type { Door } from '../app/door/door.js';
import { reportWithoutPaths } from '../app/door/privacy.js';
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
  const { path: model, report, html } = door.output(jobId);
  const stem = path.basename(model, '.onnx');
  if (what === 'report-json') {
    return text(`${stem}.report.json`, 'application/json', `${JSON.stringify(reportWithoutPaths(report), null, 2)}\n`);
  }
  if (what === 'report-html') return text(`${stem}.report.html`, 'text/html; charset=utf-8', html ?? '');
  // Every job of this door writes into a folder of its own, so all files there belong to this model.
  const folder = path.dirname(model);
  const names = (await readdir(folder, { withFileTypes: true })).filter((one) => one.isFile()).map((one) => one.name);
  if (names.length > 1) {
    const zip = await storedZip(names.sort().map((name) => ({ path: path.join(folder, name), name })));
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
