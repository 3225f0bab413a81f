import { EventEmitter } from 'node:events';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { WebContents } from 'electron';
import { type FakeElectron, fakeElectron } from './fake-electron.js';

const state = vi.hoisted(() => ({ electron: null as unknown }));
vi.mock('electron', async () => {
  const { fakeElectron: create } = await import('./fake-electron.js');
  state.electron = create();
  return state.electron as object;
});
const { answerPageRequest } = await import('../../electron/protocol.js');
const security = await import('../../electron/security.js');
const { backgrounds, createWindow } = await import('../../electron/window.js');
const electron = state.electron as FakeElectron;
const electronSession = electron.session.defaultSession;

describe('the window', () => {
  it('is sandboxed, isolated and without Node', () => {
    createWindow({ show: true });
    const { options, url } = electron.windows[0] ?? fakeElectron().windows[0]!;
    expect(options.webPreferences).toMatchObject({
      sandbox: true,
      contextIsolation: true,
      nodeIntegration: false,
      nodeIntegrationInWorker: false,
      nodeIntegrationInSubFrames: false,
      webSecurity: true,
      allowRunningInsecureContent: false,
      experimentalFeatures: false,
      webviewTag: false,
      devTools: false,
    });
    expect(url).toBe('snug://app/index.html');
    expect(options).toMatchObject({ show: false, backgroundColor: '#141517' });
  });

  it('is painted in the colours of the page before the page is there', () => {
    const tokens = readFileSync(path.resolve('renderer/tokens.css'), 'utf8');
    expect(tokens).toContain(`--canvas: light-dark(${backgrounds.light}, ${backgrounds.dark})`);
  });
});

describe('navigation', () => {
  beforeEach(() => electron.app.removeAllListeners('web-contents-created'));

  it('is denied in every form, in every page', () => {
    security.forbidNavigation();
    const { webContents } = new electron.BrowserWindow({});
    for (const name of ['will-navigate', 'will-frame-navigate', 'will-redirect', 'will-attach-webview']) {
      const preventDefault = vi.fn();
      webContents.emit(name, { preventDefault });
      expect(preventDefault, name).toHaveBeenCalledOnce();
    }
    expect(webContents.openHandler?.()).toEqual({ action: 'deny' });
  });
});

describe('permissions', () => {
  it('are denied, but for writing text to the clipboard from our own page', () => {
    security.forbidPermissions(electronSession as never);
    const ask = (permission: string, requestingUrl: string) => {
      let answer: boolean | undefined;
      electronSession.requestHandler(null, permission, (granted) => (answer = granted), { requestingUrl });
      return answer;
    };
    for (const one of [
      'media',
      'geolocation',
      'notifications',
      'openExternal',
      'fileSystem',
      'clipboard-read',
      'hid',
    ]) {
      expect(ask(one, 'snug://app/index.html'), one).toBe(false);
      expect(electronSession.checkHandler(null, one, 'snug://app'), one).toBe(false);
    }
    expect(ask('clipboard-sanitized-write', 'snug://app/index.html')).toBe(true);
    expect(ask('clipboard-sanitized-write', 'snug://app.evil/index.html')).toBe(false);
    expect(ask('clipboard-sanitized-write', 'https://evil.example/')).toBe(false);
    expect(electronSession.deviceHandler()).toBe(false);
  });
});

describe('network', () => {
  it('is cut: only the page itself may be fetched', () => {
    security.forbidNetwork(electronSession as never);
    const cancelled = (url: string) => {
      let answer: boolean | undefined;
      electronSession.beforeRequest({ url }, ({ cancel }) => (answer = cancel));
      return answer;
    };
    expect(cancelled('snug://app/index.html')).toBe(false);
    for (const url of [
      'https://example.com/',
      'http://127.0.0.1/',
      'ws://127.0.0.1/',
      'file:///etc/passwd',
      'snug://app.evil/',
      'data:text/html,x',
      'devtools://devtools/x',
    ]) {
      expect(cancelled(url), url).toBe(true);
    }
    expect(security.isAllowedRequest('devtools://devtools/x', false)).toBe(true);
  });
});

describe('the page scheme', () => {
  const files = new Map([
    ['/index.html', { type: 'text/html; charset=utf-8', body: Buffer.from('<title>Snug</title>') }],
    ['/', { type: 'text/html; charset=utf-8', body: Buffer.from('<title>Snug</title>') }],
  ]);
  const get = (url: string, method = 'GET') => answerPageRequest(files, { url, method } as Request);

  it('serves built files under a policy without any connection', async () => {
    const response = get('snug://app/index.html');
    expect(await response.text()).toBe('<title>Snug</title>');
    expect(response.headers.get('Content-Security-Policy')).toBe(
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'none'; " +
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    );
    expect(response.headers.get('X-Content-Type-Options')).toBe('nosniff');
  });

  it('refuses traversal, other hosts, other methods and unknown names', () => {
    const refused: [string, number, string?][] = [
      ['snug://app/../../etc/passwd', 404],
      ['snug://app/%2e%2e/%2e%2e/etc/passwd', 404],
      ['snug://app/..%2f..%2fetc%2fpasswd', 404],
      ['snug://app/..%5c..%5cwindows', 404],
      ['snug://app//etc/passwd', 404],
      ['snug://app/index.html%00.js', 404],
      ['snug://app/constructor', 404],
      ['snug://evil/index.html', 403],
      ['snug://app:80/index.html', 403],
      ['file:///etc/passwd', 403],
      ['snug://app/index.html', 405, 'POST'],
      ['::', 400],
    ];
    for (const [url, status, method] of refused) expect(get(url, method).status, url).toBe(status);
  });
});

describe('whose message it is', () => {
  const page = Object.assign(new EventEmitter(), {
    mainFrame: { origin: 'snug://app' },
    isDestroyed: () => false,
  });
  const own = (event: object, contents: object | null = page) =>
    security.isOwnPage(event as never, contents as unknown as WebContents);

  it('accepts the main frame of our page and nothing else', () => {
    expect(own({ sender: page, senderFrame: page.mainFrame })).toBe(true);
    expect(own({ sender: page, senderFrame: null })).toBe(false);
    expect(own({ sender: page, senderFrame: { origin: 'snug://app' } })).toBe(false);
    expect(own({ sender: {}, senderFrame: page.mainFrame })).toBe(false);
    expect(own({ sender: page, senderFrame: page.mainFrame }, null)).toBe(false);
    const moved = { ...page, mainFrame: { origin: 'https://evil.example' }, isDestroyed: () => false };
    expect(own({ sender: moved, senderFrame: moved.mainFrame }, moved)).toBe(false);
    const gone = { ...page, isDestroyed: () => true };
    expect(own({ sender: gone, senderFrame: gone.mainFrame }, gone)).toBe(false);
  });
});
