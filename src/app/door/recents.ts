import { randomBytes } from 'node:crypto';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import type { RecentModel } from '../../contract/api.js';
import { SnugError } from '../../contract/errors.js';
import type { Verdict } from '../../contract/types.js';
import type { SettingsStore } from './settings.js';

const kept = 10;

type Entry = Omit<RecentModel, 'missing'> & { path: string };

export interface Recents {
  /** Newest first; `missing` tells those whose file is gone. */
  list(): Promise<RecentModel[]>;
  /** `temporary` entries (uploads) live as long as this process and are never written to disk. */
  add(modelPath: string, options: { temporary: boolean }): Promise<void>;
  setVerdict(modelPath: string, verdict: Verdict): Promise<void>;
  /** Path behind an id; `E_NOT_FOUND` when the id is unknown. */
  pathOf(id: string): string;
}

/** The list of models opened last, on top of the settings file. */
export function createRecents(settings: SettingsStore, now: () => number = Date.now): Recents {
  let temporary: Entry[] = [];

  const all = (): Entry[] =>
    [...temporary, ...settings.read().recent].sort((a, b) => b.openedAt - a.openedAt).slice(0, kept);

  async function change(edit: (entries: Entry[]) => Entry[], where: 'temporary' | 'disk'): Promise<void> {
    if (where === 'temporary') temporary = edit(temporary).slice(0, kept);
    else await settings.update((old) => ({ ...old, recent: edit(old.recent).slice(0, kept) }));
  }

  return {
    list: () =>
      Promise.all(
        all().map(async ({ path: file, ...entry }) => ({
          ...entry,
          missing: !(await stat(file).then(
            (found) => found.isFile(),
            () => false,
          )),
        })),
      ),
    add(modelPath, options) {
      const known = all().find((entry) => entry.path === modelPath);
      const entry: Entry = {
        id: known?.id ?? randomBytes(8).toString('hex'),
        name: path.basename(modelPath),
        path: modelPath,
        verdict: known?.verdict ?? 'cannot-tell',
        openedAt: now(),
      };
      return change(
        (entries) => [entry, ...entries.filter((other) => other.path !== modelPath)],
        options.temporary ? 'temporary' : 'disk',
      );
    },
    async setVerdict(modelPath, verdict) {
      const edit = (entries: Entry[]) =>
        entries.map((entry) => (entry.path === modelPath ? { ...entry, verdict } : entry));
      const differs = (entry: Entry) => entry.path === modelPath && entry.verdict !== verdict;
      if (temporary.some(differs)) await change(edit, 'temporary');
      // Planning happens on every move of a slider; the disk is touched only when the verdict turns.
      if (settings.read().recent.some(differs)) await change(edit, 'disk');
    },
    pathOf(id) {
      const found = all().find((entry) => entry.id === id);
      if (found) return found.path;
      throw new SnugError('E_NOT_FOUND', 'This model is no longer in the list.', { action: 'Choose the file again.' });
    },
  };
}
