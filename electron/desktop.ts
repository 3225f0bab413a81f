import { randomBytes } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { app, type BrowserWindow, dialog, shell } from 'electron';
import type { Door } from '../src/app/door/door.js';
import { reportWithoutPaths } from '../src/app/door/privacy.js';
import { SnugError } from '../src/contract/errors.js';
import type { DesktopCalls } from './router.js';
import type { Words } from './words.js';

/** Native dialogs and the file manager. */
export function desktopCalls(door: Door, window: () => BrowserWindow | null, words: Words): DesktopCalls {
  return {
    async chooseModel() {
      const options: Electron.OpenDialogOptions = {
        title: words.chooseModel,
        properties: ['openFile'],
        filters: [
          { name: words.models, extensions: ['onnx'] },
          { name: words.allFiles, extensions: ['*'] },
        ],
      };
      const parent = window();
      const chosen = await (parent ? dialog.showOpenDialog(parent, options) : dialog.showOpenDialog(options));
      return chosen.canceled || chosen.filePaths.length === 0 ? null : chosen.filePaths;
    },
    async saveOutput(jobId, what) {
      const { path: model, report, html } = door.output(jobId);
      if (what === 'model') {
        shell.showItemInFolder(model);
        return null;
      }
      const extension = what === 'report-json' ? 'json' : 'html';
      const text = what === 'report-json' ? `${JSON.stringify(reportWithoutPaths(report), null, 2)}\n` : (html ?? '');
      const options: Electron.SaveDialogOptions = {
        title: words.saveReport,
        defaultPath: path.join(path.dirname(model), `${path.basename(model, '.onnx')}.report.${extension}`),
        filters: [{ name: extension.toUpperCase(), extensions: [extension] }],
      };
      const parent = window();
      const { filePath } = await (parent ? dialog.showSaveDialog(parent, options) : dialog.showSaveDialog(options));
      if (filePath) await writeWhole(filePath, text);
      return null;
    },
    opened(paths) {
      for (const file of paths) if (file.toLowerCase().endsWith('.onnx')) app.addRecentDocument(file);
    },
  };
}

/** The dialog asked about overwriting already; a failing write must still leave the old file. */
async function writeWhole(file: string, text: string): Promise<void> {
  const partial = path.join(
    path.dirname(file),
    `.${path.basename(file)}.snug-partial-${randomBytes(4).toString('hex')}`,
  );
  try {
    const handle = await open(partial, 'wx');
    try {
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(partial, file);
  } catch (error) {
    await rm(partial, { force: true });
    const code = error instanceof Error && 'code' in error ? error.code : '';
    throw new SnugError(
      code === 'ENOSPC' || code === 'EDQUOT'
        ? 'E_DISK_FULL'
        : code === 'EACCES' || code === 'EPERM' || code === 'EROFS'
          ? 'E_NO_PERMISSION'
          : 'E_WRITE_FAILED',
      'The report could not be written.',
      { action: 'Save it to another folder.', details: String(error), cause: error },
    );
  }
}
