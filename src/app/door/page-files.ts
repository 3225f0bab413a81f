import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { SnugError } from '../../contract/errors.js';

const types: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.ico': 'image/x-icon',
  '.woff2': 'font/woff2',
  '.txt': 'text/plain; charset=utf-8',
};

export interface PageFile {
  type: string;
  body: Buffer;
}

/**
 * The built page, held in memory as `/name` → content. A request is looked up here and nowhere else: no path
 * of a request ever reaches the file system, so there is nothing to traverse. Source maps and unknown types
 * are left out.
 */
export function readPageFiles(directory: string): ReadonlyMap<string, PageFile> {
  const files = new Map<string, PageFile>();
  const visit = (folder: string, prefix: string): void => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const full = path.join(folder, entry.name);
      if (entry.isDirectory()) visit(full, `${prefix}${entry.name}/`);
      const type = types[path.extname(entry.name)];
      if (entry.isFile() && type !== undefined) files.set(`${prefix}${entry.name}`, { type, body: readFileSync(full) });
    }
  };
  try {
    visit(directory, '/');
  } catch (error) {
    throw missingPage(error);
  }
  const index = files.get('/index.html');
  if (!index) throw missingPage(undefined);
  files.set('/', index);
  return files;
}

function missingPage(cause: unknown): SnugError {
  return new SnugError('E_NOT_FOUND', 'The built page of Snug is missing.', {
    action: 'Run "npm run build" in the project folder.',
    cause,
  });
}

/**
 * Headers of every page file. `connect` is where the page may send requests: `'none'` in the desktop app,
 * `'self'` in the browser door. Nothing inline, nothing from elsewhere, no framing, trusted types on.
 */
export function pageHeaders(connect: "'none'" | "'self'"): Record<string, string> {
  return {
    'Content-Security-Policy': [
      "default-src 'none'",
      "script-src 'self'",
      "style-src 'self'",
      "img-src 'self'",
      "font-src 'self'",
      `connect-src ${connect}`,
      "base-uri 'none'",
      "form-action 'none'",
      "frame-ancestors 'none'",
      "require-trusted-types-for 'script'",
    ].join('; '),
    'X-Content-Type-Options': 'nosniff',
    'X-Frame-Options': 'DENY',
    'Referrer-Policy': 'no-referrer',
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Permissions-Policy': 'camera=(), microphone=(), geolocation=(), usb=(), serial=(), hid=()',
  };
}
