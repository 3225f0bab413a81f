import path from 'node:path';
import { BrowserWindow, nativeTheme } from 'electron';
import { pageUrl } from './protocol.js';
import { pagePreferences } from './security.js';

/** `--canvas` of the two themes (renderer/tokens.css), painted before the page is there: no white flash. */
export const backgrounds = { light: '#f4f5f7', dark: '#141517' } as const;

export function createWindow(options: { show: boolean }): BrowserWindow {
  const window = new BrowserWindow({
    name: 'main',
    title: 'Snug',
    width: 1080,
    height: 720,
    minWidth: 720,
    minHeight: 560,
    show: false,
    windowStatePersistence: true,
    backgroundColor: nativeTheme.shouldUseDarkColors ? backgrounds.dark : backgrounds.light,
    webPreferences: pagePreferences(path.join(import.meta.dirname, 'preload.cjs')),
  });
  if (options.show) window.once('ready-to-show', () => window.show());
  void window.loadURL(pageUrl);
  return window;
}
