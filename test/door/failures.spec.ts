import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { dropFiles, expect, models, stopDoor, test } from './fixtures.js';

const model = path.join(models, 'digits-mlp.onnx');

test('a file that is no model, and one cut short, are named as such and left as they are', async ({ app, door }) => {
  test.skip(!existsSync(model), 'the model collection is not beside this checkout');
  const cases = [
    ['garbage.onnx', Buffer.from('this is no model at all\n'.repeat(50))],
    ['short.onnx', readFileSync(model).subarray(0, 300_000)],
  ] as const;
  for (const [name, content] of cases) {
    const file = path.join(door.folder, name);
    writeFileSync(file, content);
    const before = createHash('sha256').update(content).digest('hex');
    await dropFiles(app, [file]);
    const alert = app.getByRole('alert');
    await expect(alert).toBeVisible();
    await expect(alert).toContainText(/SNUG|E_(?:NOT_ONNX|TRUNCATED|MALFORMED)|ONNX|cut short|ends/u);
    // What happened, in words of ours: no path of the server, no text of the runtime outside "Details".
    await expect(alert).not.toContainText(door.folder);
    expect(createHash('sha256').update(readFileSync(file)).digest('hex')).toBe(before);
    await alert
      .getByRole('button', { name: 'Dismiss' })
      .or(app.getByRole('button', { name: 'Dismiss' }))
      .first()
      .click();
    await expect(app.getByRole('button', { name: 'Choose a file' })).toBeEnabled();
  }
});

test('several models at once are turned down with what to do', async ({ app, door }) => {
  const files = ['a.onnx', 'b.onnx'].map((name) => {
    const file = path.join(door.folder, name);
    writeFileSync(file, 'x');
    return file;
  });
  await dropFiles(app, files);
  await expect(app.getByText(/one at a time/iu).first()).toBeVisible();
});

test('the page is cut off from everything but its own server', async ({ app, door, complaints }) => {
  // As text: the types of the page are not part of this program.
  const results = await app.evaluate(`(async () => {
    const tried = {};
    const attempt = (name, run) => new Promise((resolve) => {
      // From a timer, so that the page's own policy counts and not the rights of the test's console.
      setTimeout(async () => {
        try {
          await run();
          tried[name] = 'allowed';
        } catch {
          tried[name] = 'refused';
        }
        resolve();
      });
    });
    await attempt('fetch elsewhere', () => fetch('https://example.com/'));
    await attempt('inline script', () => {
      const script = document.createElement('script');
      script.textContent = 'window.injected = true';
      document.head.append(script);
      if (!('injected' in window)) throw new Error('not run');
    });
    await attempt('markup from text', () => document.body.insertAdjacentHTML('beforeend', '<img src=x>'));
    await attempt('eval', () => (0, eval)('1'));
    return tried;
  })()`);
  expect(results).toEqual({
    'fetch elsewhere': 'refused',
    'inline script': 'refused',
    'markup from text': 'refused',
    eval: 'refused',
  });
  expect(complaints.length).toBeGreaterThan(0);

  const cookies = await app.context().cookies();
  expect(cookies).toMatchObject([{ httpOnly: true, sameSite: 'Strict' }]);

  // The link was for one browser: another one, without the cookie, gets nothing.
  const other = await app.context().browser()?.newContext();
  const stranger = await other?.newPage();
  expect((await stranger?.goto(door.url))?.status()).toBe(403);
  expect((await stranger?.goto(new URL('/', door.url).href))?.status()).toBe(401);
  await other?.close();
});

test('a page elsewhere cannot use the cookie of a user who is logged in', async ({ app, door }) => {
  const target = new URL('/api/recent', door.url).href;
  const outsider = await app.context().newPage();
  // Another site that the same browser has open; `localhost` is a different site than 127.0.0.1.
  await outsider.route('http://outsider.test/**', (route) =>
    route.fulfill({ contentType: 'text/html', body: '<!doctype html><title>outsider</title>' }),
  );
  await outsider.goto('http://outsider.test/');
  const seen = await outsider.evaluate(async (url) => {
    const attempts = [
      () => fetch(url, { method: 'POST', body: '[]', credentials: 'include', mode: 'no-cors' }),
      () => fetch(url, { method: 'POST', body: '[]', credentials: 'include', headers: { 'X-Snug': '1' } }),
    ];
    const outcomes = [];
    for (const attempt of attempts) {
      outcomes.push(
        await attempt().then(
          (reply) => `${reply.type} ${reply.status}`,
          () => 'refused',
        ),
      );
    }
    return outcomes;
  }, target);
  expect(seen).not.toContain('basic 200');
  expect(seen).not.toContain('cors 200');
});

test('stopping the server leaves no upload and no process behind', async ({ app, door }) => {
  test.skip(!existsSync(model), 'the model collection is not beside this checkout');
  await dropFiles(app, [model]);
  await expect(app.getByRole('heading', { name: /digits-mlp\.onnx/u })).toBeVisible();
  expect(readdirSync(door.cacheDirectory)).toHaveLength(1);
  const children = childrenOf(door.process.pid ?? 0);
  await stopDoor(door);
  expect(readdirSync(door.cacheDirectory)).toHaveLength(0);
  await expect.poll(() => children.filter(isAlive)).toEqual([]);
});

test('stopping the work ends it within moments, says what is left, and the plan is still there', async ({ app }) => {
  const large = path.join(models, 'digits-vit.onnx');
  test.skip(!existsSync(large), 'the model collection is not beside this checkout');
  await dropFiles(app, [large]);
  await expect(app.getByRole('heading', { name: /digits-vit\.onnx/u })).toBeVisible();
  await app.getByRole('combobox', { name: 'Unit' }).selectOption('MB');
  await app.getByRole('spinbutton', { name: 'Budget' }).fill('6');
  await app.getByRole('spinbutton', { name: 'Budget' }).press('Tab');
  await app.getByRole('button', { name: 'Make it snug' }).click();
  await app.getByRole('button', { name: 'Stop' }).click();
  await expect(app.getByText(/^Stopped\. /u).first()).toBeVisible();
  await expect(app.getByRole('heading', { name: /digits-vit/u })).toBeVisible();
});

/** Process ids below one process; only Linux tells them in files, elsewhere the list is empty. */
function childrenOf(pid: number): number[] {
  const file = `/proc/${pid}/task/${pid}/children`;
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8').trim().split(' ').filter(Boolean).map(Number);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
