import { protocol, type Session } from 'electron';
import { type PageFile, pageHeaders } from '../src/app/door/page-files.js';

export const pageOrigin = 'snug://app';
export const pageUrl = `${pageOrigin}/index.html`;

/** Must run before the app is ready. No `bypassCSP`, no service workers, no CORS: the page needs none of them. */
export function registerPageScheme(): void {
  protocol.registerSchemesAsPrivileged([{ scheme: 'snug', privileges: { standard: true, secure: true } }]);
}

/**
 * Answers a request of the page from the manifest of built files: one host, GET only, exact names only. What is
 * not in the manifest does not exist.
 */
export function answerPageRequest(files: ReadonlyMap<string, PageFile>, request: Request): Response {
  const headers = pageHeaders("'none'");
  const refuse = (status: number): Response => new Response(null, { status, headers });
  if (!URL.canParse(request.url)) return refuse(400);
  const url = new URL(request.url);
  if (url.protocol !== 'snug:' || url.host !== 'app') return refuse(403);
  if (request.method !== 'GET') return refuse(405);
  const file = files.get(url.pathname);
  if (!file) return refuse(404);
  return new Response(new Uint8Array(file.body), {
    status: 200,
    headers: { ...headers, 'Content-Type': file.type, 'Cache-Control': 'no-store' },
  });
}

export function servePage(session: Session, files: ReadonlyMap<string, PageFile>): void {
  session.protocol.handle('snug', (request) => answerPageRequest(files, request));
}
