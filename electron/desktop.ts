import path from 'node:path';
import { app, type BrowserWindow, dialog, shell } from 'electron';
import type { Door } from '../src/app/door/door.js';
import { saveText } from '../src/app/door/whole-file.js';
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
      const { path: model, json, html } = door.output(jobId);
      if (what === 'model') {
        shell.showItemInFolder(model);
        return null;
      }
      const extension = what === 'report-json' ? 'json' : 'html';
      const text = what === 'report-json' ? json : (html ?? '');
      const options: Electron.SaveDialogOptions = {
        title: words.saveReport,
        defaultPath: path.join(path.dirname(model), `${path.basename(model, '.onnx')}.report.${extension}`),
        filters: [{ name: extension.toUpperCase(), extensions: [extension] }],
      };
      const parent = window();
      const { filePath } = await (parent ? dialog.showSaveDialog(parent, options) : dialog.showSaveDialog(options));
      if (filePath) await saveText(filePath, text);
      return null;
    },
    opened(paths) {
      for (const file of paths) if (file.toLowerCase().endsWith('.onnx')) app.addRecentDocument(file);
    },
  };
}
