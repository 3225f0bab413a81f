import os from 'node:os';
import path from 'node:path';
import * as v from 'valibot';
import { readOwnFile, writeAtomically } from './whole-file.js';

/** What both doors remember between two starts. No secrets live here. */
const settingsSchema = v.object({
  version: v.literal(1),
  recent: v.array(
    v.object({
      id: v.string(),
      name: v.string(),
      path: v.string(),
      verdict: v.picklist(['fits', 'tight', 'does-not-fit', 'cannot-tell']),
      openedAt: v.number(),
    }),
  ),
});

export type Settings = v.InferOutput<typeof settingsSchema>;

const defaults = (): Settings => ({ version: 1, recent: [] });

/** Folder for settings as each system wants it. */
export function settingsDirectory(
  platform: NodeJS.Platform = process.platform,
  env: NodeJS.ProcessEnv = process.env,
  home: string = os.homedir(),
): string {
  if (env.SNUG_SETTINGS_DIR) return env.SNUG_SETTINGS_DIR;
  if (platform === 'win32') return path.join(env.APPDATA ?? path.join(home, 'AppData', 'Roaming'), 'Snug');
  if (platform === 'darwin') return path.join(home, 'Library', 'Application Support', 'Snug');
  return path.join(env.XDG_CONFIG_HOME ?? path.join(home, '.config'), 'snug');
}

/** Folder for files that may be thrown away; on Linux not `/tmp`, which is often memory. */
export function cacheDirectory(
  platform: NodeJS.Platform = process.platform,
  env: NodeJS.ProcessEnv = process.env,
  home: string = os.homedir(),
): string {
  if (env.SNUG_CACHE_DIR) return env.SNUG_CACHE_DIR;
  if (platform === 'win32') return path.join(env.LOCALAPPDATA ?? path.join(home, 'AppData', 'Local'), 'Snug', 'Cache');
  if (platform === 'darwin') return path.join(home, 'Library', 'Caches', 'Snug');
  return path.join(env.XDG_CACHE_HOME ?? path.join(home, '.cache'), 'snug');
}

export interface SettingsStore {
  read(): Settings;
  /** Changes the settings and writes them whole or not at all. A failing disk never fails the caller. */
  update(change: (settings: Settings) => Settings): Promise<void>;
  /** Set when the file on disk could not be understood and was put aside under this name. */
  readonly setAside: string | null;
}

/**
 * Loads `settings.json` from `directory`. A file that cannot be understood is renamed to `settings.json.bad`
 * and defaults are used, so that a half-written or newer file never stops the start.
 */
export async function openSettings(directory: string): Promise<SettingsStore> {
  const file = path.join(directory, 'settings.json');
  const { content, setAside, replaceable } = await readOwnFile(file, (value) => v.parse(settingsSchema, value));
  let current = content ?? defaults();
  let writing: Promise<void> = Promise.resolve();
  return {
    setAside,
    read: () => current,
    update(change) {
      current = change(current);
      if (!replaceable) return Promise.resolve();
      // One write after the other: two renames at once could leave the older state.
      writing = writing.then(() => writeAtomically(file, JSON.stringify(current, null, 2))).catch(() => undefined);
      return writing;
    },
  };
}
