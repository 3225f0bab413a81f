import { app, Menu, type MenuItemConstructorOptions } from 'electron';
import type { Words } from './words.js';

/** Everything the menu offers has an accelerator: the roles bring the ones each system expects. */
export function menuTemplate(words: Words, actions: { open(): void }): MenuItemConstructorOptions[] {
  const mac = process.platform === 'darwin';
  const file: MenuItemConstructorOptions[] = [
    { label: words.open, accelerator: 'CmdOrCtrl+O', click: () => actions.open() },
    ...(mac ? [{ role: 'recentDocuments' as const, submenu: [{ role: 'clearRecentDocuments' as const }] }] : []),
    { type: 'separator' },
    mac ? { role: 'close' } : { role: 'quit' },
  ];
  const view: MenuItemConstructorOptions[] = [
    ...(app.isPackaged ? [] : [{ role: 'reload' as const }, { role: 'toggleDevTools' as const }]),
    { role: 'resetZoom' },
    { role: 'zoomIn' },
    { role: 'zoomOut' },
    { type: 'separator' },
    { role: 'togglefullscreen' },
  ];
  return [
    ...(mac ? [{ role: 'appMenu' as const }] : []),
    { label: words.file, submenu: file },
    { label: words.edit, role: 'editMenu' },
    { label: words.view, submenu: view },
    { label: words.window, role: 'windowMenu' },
  ];
}

export function setMenu(words: Words, actions: { open(): void }): void {
  Menu.setApplicationMenu(Menu.buildFromTemplate(menuTemplate(words, actions)));
}
