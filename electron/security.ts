import { app, type IpcMainInvokeEvent, type Session, type WebContents, type WebPreferences } from 'electron';
import { pageOrigin } from './protocol.js';

/** Settings of the one window's page. Written out in full, defaults included, so that tests can hold on to them. */
export function pagePreferences(preload: string): WebPreferences {
  return {
    preload,
    sandbox: true,
    contextIsolation: true,
    nodeIntegration: false,
    nodeIntegrationInWorker: false,
    nodeIntegrationInSubFrames: false,
    webSecurity: true,
    allowRunningInsecureContent: false,
    experimentalFeatures: false,
    webviewTag: false,
    navigateOnDragDrop: false,
    spellcheck: false,
    devTools: !app.isPackaged,
  };
}

/** Every page of this app stays where it was loaded: no navigation, no new windows, no webviews. */
export function forbidNavigation(): void {
  app.on('web-contents-created', (_event, contents: WebContents) => {
    const prevent = (event: { preventDefault(): void }): void => event.preventDefault();
    contents.on('will-navigate', prevent);
    contents.on('will-frame-navigate', prevent);
    contents.on('will-redirect', prevent);
    contents.on('will-attach-webview', prevent);
    contents.setWindowOpenHandler(() => ({ action: 'deny' }));
  });
}

/**
 * Electron grants permissions unless told otherwise. The page may write plain text to the clipboard (a
 * diagnostics text the user asked to copy) and nothing else; devices are never handed out.
 */
export function forbidPermissions(session: Session): void {
  const allowed = (permission: string, origin: string): boolean =>
    permission === 'clipboard-sanitized-write' && (origin === pageOrigin || origin === `${pageOrigin}/`);
  session.setPermissionRequestHandler((_contents, permission, callback, details) => {
    callback(allowed(permission, originOf(details.requestingUrl)));
  });
  session.setPermissionCheckHandler((_contents, permission, origin) => allowed(permission, origin));
  session.setDevicePermissionHandler(() => false);
}

/** "Your models never leave this computer", made checkable: every request that is not for the page is cancelled. */
export function forbidNetwork(session: Session): void {
  session.webRequest.onBeforeRequest((details, callback) => {
    callback({ cancel: !isAllowedRequest(details.url, app.isPackaged) });
  });
}

export function isAllowedRequest(url: string, packaged: boolean): boolean {
  return url.startsWith(`${pageOrigin}/`) || (!packaged && url.startsWith('devtools://'));
}

/**
 * Whether a message comes from the main frame of our own page in our own window. A frame that has gone or
 * navigated away since is null and is refused.
 */
export function isOwnPage(
  event: Pick<IpcMainInvokeEvent, 'sender' | 'senderFrame'>,
  page: WebContents | null,
): boolean {
  const frame = event.senderFrame;
  return (
    page !== null &&
    !page.isDestroyed() &&
    event.sender === page &&
    frame !== null &&
    frame === page.mainFrame &&
    frame.origin === pageOrigin
  );
}

function originOf(url: string): string {
  // `new URL(...).origin` is "null" for schemes that are not special, so it is put together here.
  if (!URL.canParse(url)) return '';
  const { protocol, host } = new URL(url);
  return `${protocol}//${host}`;
}
