import { setRelativeName } from '../bridge/relative-names.js';

/** What a data set may be, for a dialog: arrays, text or images. */
export const dataFiles = '.npy,.npz,.txt,.json,image/*';

/** Folders may be deep and hostile; a model with its data files is never this many. */
const maxFiles = 2000;

/**
 * All files of a drop, folders walked. Must be called while the drop event runs: the browser empties the list
 * right after.
 */
export async function droppedFiles(data: DataTransfer): Promise<File[]> {
  const entries = [...data.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  if (entries.length === 0) return [...data.files];
  const files: File[] = [];
  for (const entry of entries) await walk(entry, files);
  return files;
}

async function walk(entry: FileSystemEntry, files: File[]): Promise<void> {
  if (files.length >= maxFiles) return;
  if (isFile(entry)) {
    const file = await new Promise<File>((resolve, reject) => entry.file(resolve, reject));
    setRelativeName(file, entry.fullPath.replace(/^\//, ''));
    files.push(file);
  } else if (isDirectory(entry)) {
    const reader = entry.createReader();
    for (;;) {
      // A directory comes in batches; an empty one ends it.
      const batch = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
      if (batch.length === 0) return;
      for (const child of batch) await walk(child, files);
    }
  }
}

function isFile(entry: FileSystemEntry): entry is FileSystemFileEntry {
  return entry.isFile;
}

function isDirectory(entry: FileSystemEntry): entry is FileSystemDirectoryEntry {
  return entry.isDirectory;
}
