import { randomBytes, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

/** Why a request is turned away before anything looks at it. */
export interface Refusal {
  status: 400 | 401 | 403;
  reason: string;
}

export interface Access {
  /** A fresh one-time token; earlier unused ones stay good. */
  newToken(): string;
  /** Trades an unused token for the value of a `Set-Cookie` header; null when the token is unknown or used. */
  redeem(token: string): string | null;
  /** Checks that hold for every request: who is spoken to, and from which page. */
  checkOrigin(request: IncomingMessage): Refusal | null;
  /** Whether the request carries the session cookie. */
  hasSession(request: IncomingMessage): boolean;
}

const loopbackNames = new Set(['localhost', '127.0.0.1', '[::1]']);

/**
 * Who may talk to the server. Loopback alone is no protection: any page in the user's browser can send requests
 * there. So: the Host header must be a loopback name (stops DNS rebinding; the port may differ, since an SSH
 * tunnel changes it), an Origin header must name that same host, and everything but the one-time link needs a
 * session cookie that no other site can send.
 */
export function createAccess(): Access {
  const tokens = new Set<string>();
  const session = randomBytes(32).toString('base64url');
  // Cookies are shared by all ports of a host: two servers at once need two names.
  const cookieName = `snug-${randomBytes(4).toString('hex')}`;

  return {
    newToken() {
      const token = randomBytes(32).toString('base64url');
      tokens.add(token);
      return token;
    },
    redeem(token) {
      return tokens.delete(token) ? `${cookieName}=${session}; HttpOnly; SameSite=Strict; Path=/` : null;
    },
    checkOrigin(request) {
      const host = request.headers.host ?? '';
      if (!loopbackNames.has(host.replace(/:\d{1,5}$/u, '').toLowerCase())) {
        return { status: 403, reason: 'Snug answers only to its loopback address.' };
      }
      const origin = request.headers.origin;
      if (origin !== undefined && origin !== `http://${host}`) {
        return { status: 403, reason: 'Snug answers only to its own page.' };
      }
      const site = request.headers['sec-fetch-site'];
      if (request.method === 'POST' && site !== undefined && site !== 'same-origin') {
        return { status: 403, reason: 'Snug answers only to its own page.' };
      }
      return null;
    },
    hasSession(request) {
      const cookies = (request.headers.cookie ?? '').split(';').map((one) => one.trim());
      const sent = cookies.find((one) => one.startsWith(`${cookieName}=`))?.slice(cookieName.length + 1);
      return sent !== undefined && sameText(sent, session);
    },
  };
}

function sameText(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}
