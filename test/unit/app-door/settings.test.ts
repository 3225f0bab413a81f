import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createRecents } from '../../../src/app/door/recents.js';
import { openSettings, settingsDirectory } from '../../../src/app/door/settings.js';

let folder: string;
beforeEach(() => (folder = mkdtempSync(path.join(os.tmpdir(), 'snug-settings-'))));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const model = (name: string): string => {
  const file = path.join(folder, name);
  writeFileSync(file, 'x');
  return file;
};

describe('settings', () => {
  it.each(['', '{', '{"version":2,"recent":[]}', '{"version":1,"recent":[{"path":1}]}', 'null'])(
    'puts a file aside that it cannot understand: %s',
    async (content) => {
      writeFileSync(path.join(folder, 'settings.json'), content);
      const settings = await openSettings(folder);
      expect(settings.read()).toEqual({ version: 1, recent: [] });
      expect(settings.setAside).toBe(path.join(folder, 'settings.json.bad'));
      expect(readFileSync(path.join(folder, 'settings.json.bad'), 'utf8')).toBe(content);
    },
  );

  it('puts a second one aside under another name, and leaves alone what cannot be read now', async () => {
    for (const content of ['{', '[']) {
      writeFileSync(path.join(folder, 'settings.json'), content);
      await openSettings(folder);
    }
    expect(readFileSync(path.join(folder, 'settings.json.bad'), 'utf8')).toBe('{');
    expect(readFileSync(path.join(folder, 'settings.json.bad-2'), 'utf8')).toBe('[');
    // A folder of that name stands for any error but "not there".
    mkdirSync(path.join(folder, 'busy/settings.json'), { recursive: true });
    const settings = await openSettings(path.join(folder, 'busy'));
    expect(settings.setAside).toBeNull();
    await settings.update((before) => ({ ...before }));
    expect(readdirSync(path.join(folder, 'busy'))).toEqual(['settings.json']);
  });

  it('writes whole files and leaves no parts, however many writes come at once', async () => {
    const settings = await openSettings(path.join(folder, 'deep/er'));
    const recents = createRecents(settings);
    await Promise.all(Array.from({ length: 20 }, (_, i) => recents.add(model(`${i}.onnx`), { temporary: false })));
    expect(readdirSync(path.join(folder, 'deep/er'))).toEqual(['settings.json']);
    expect((await openSettings(path.join(folder, 'deep/er'))).read().recent).toHaveLength(10);
  });

  it('works without a disk to write to', async () => {
    writeFileSync(path.join(folder, 'file'), '');
    const settings = await openSettings(path.join(folder, 'file', 'settings'));
    const recents = createRecents(settings);
    await recents.add(model('a.onnx'), { temporary: false });
    expect(await recents.list()).toMatchObject([{ name: 'a.onnx' }]);
  });

  it('lives where each system wants it', () => {
    expect(settingsDirectory('linux', {}, '/home/me')).toBe('/home/me/.config/snug');
    expect(settingsDirectory('linux', { XDG_CONFIG_HOME: '/cfg' }, '/home/me')).toBe('/cfg/snug');
    expect(settingsDirectory('darwin', {}, '/Users/me')).toBe('/Users/me/Library/Application Support/Snug');
    expect(settingsDirectory('win32', { APPDATA: '/roaming' }, '/u')).toBe(path.join('/roaming', 'Snug'));
  });
});

describe('recent models', () => {
  it('keeps the newest first, once each, with the last verdict, and tells missing ones', async () => {
    let now = 0;
    const settings = await openSettings(folder);
    const recents = createRecents(settings, () => (now += 1));
    const [a, b] = [model('a.onnx'), model('b.onnx')];
    await recents.add(a, { temporary: false });
    await recents.add(b, { temporary: false });
    await recents.setVerdict(a, 'does-not-fit');
    await recents.add(a, { temporary: false });
    rmSync(b);
    const list = await recents.list();
    expect(list.map(({ name, verdict, missing }) => [name, verdict, missing])).toEqual([
      ['a.onnx', 'does-not-fit', false],
      ['b.onnx', 'cannot-tell', true],
    ]);
    expect(JSON.stringify(list)).not.toContain(folder);
    expect(recents.pathOf(list[0]?.id ?? '')).toBe(a);
    expect(() => recents.pathOf('nope')).toThrow(expect.objectContaining({ code: 'E_NOT_FOUND' }));
  });

  it('forgets uploads with the process', async () => {
    mkdirSync(path.join(folder, 's'));
    const recents = createRecents(await openSettings(path.join(folder, 's')));
    await recents.add(model('up.onnx'), { temporary: true });
    expect(await recents.list()).toHaveLength(1);
    expect(existsSync(path.join(folder, 's/settings.json'))).toBe(false);
    expect(await createRecents(await openSettings(path.join(folder, 's'))).list()).toEqual([]);
  });
});
