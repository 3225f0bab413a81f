import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { PlanRequest } from '../../../src/contract/types.js';
import { type SnugServer, startServer } from '../../../src/serve/server.js';
import { type FakeService, fakeReport, fakeService } from './fake-service.js';

interface Reply {
  status: number;
  headers: http.IncomingHttpHeaders;
  body: string;
}

let root: string;
let server: SnugServer;
let service: FakeService;

/** Plain client: `fetch` refuses to set Host, Origin and Cookie, which is what these tests are about. */
function send(
  method: string,
  target: string,
  headers: Record<string, string> = {},
  body: string | Buffer = '',
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const request = http.request(
      { host: '127.0.0.1', port: server.port, method, path: target, headers },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(chunks).toString('utf8'),
          }),
        );
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

async function cookie(): Promise<string> {
  const { searchParams } = new URL(server.newUrl());
  const reply = await send('GET', `/?token=${searchParams.get('token') ?? ''}`);
  return reply.headers['set-cookie']?.[0]?.split(';')[0] ?? '';
}

const page = (session: string) => ({ Cookie: session, 'X-Snug': '1', 'Content-Type': 'application/json' });

async function call(session: string, method: string, ...args: unknown[]) {
  const reply = await send('POST', `/api/${method}`, page(session), JSON.stringify(args));
  return { status: reply.status, result: JSON.parse(reply.body) as { ok: boolean; value: never; error: never } };
}

async function upload(session: string, folder: string, name: string, content: string) {
  const query = new URLSearchParams({ session: folder, name });
  const reply = await send('POST', `/api/upload?${query.toString()}`, page(session), content);
  return { status: reply.status, result: JSON.parse(reply.body) as { ok: boolean; error?: { code: string } } };
}

const request: PlanRequest = { modelId: 'model-1', budgetBytes: 1000, pins: {} };

async function start(files?: Record<string, string>): Promise<void> {
  service = fakeService(files);
  server = await startServer({
    service,
    staticDir: path.join(root, 'page'),
    settingsDir: path.join(root, 'settings'),
    cacheDir: path.join(root, 'cache'),
  });
}

beforeEach(async () => {
  root = mkdtempSync(path.join(os.tmpdir(), 'snug-serve-test-'));
  mkdirSync(path.join(root, 'page/assets'), { recursive: true });
  writeFileSync(path.join(root, 'page/index.html'), '<!doctype html><title>Snug</title>');
  writeFileSync(path.join(root, 'page/assets/main.js'), 'export {};');
  writeFileSync(path.join(root, 'page/assets/main.js.map'), '{}');
  writeFileSync(path.join(root, 'secret.txt'), 'secret');
  await start();
});

afterEach(async () => {
  await server.close();
  rmSync(root, { recursive: true, force: true });
});

describe('the one-time link', () => {
  it('is traded once for a strict cookie and leaves the address bar', async () => {
    const target = new URL(server.url);
    const first = await send('GET', `/${target.search}`);
    expect(first.status).toBe(303);
    expect(first.headers.location).toBe('/');
    expect(first.headers['set-cookie']?.[0]).toMatch(/; HttpOnly; SameSite=Strict; Path=\/$/u);
    const second = await send('GET', `/${target.search}`);
    expect(second.status).toBe(403);
    expect(second.headers['set-cookie']).toBeUndefined();
  });

  it('is not used up by HEAD, and an owner of the cookie may open it again', async () => {
    const target = new URL(server.url);
    expect((await send('HEAD', `/${target.search}`)).status).toBe(401);
    const first = await send('GET', `/${target.search}`);
    const session = first.headers['set-cookie']?.[0]?.split(';')[0] ?? '';
    expect((await send('GET', `/${target.search}`, { Cookie: session })).status).toBe(303);
  });

  it('refuses made-up tokens and cookies', async () => {
    expect((await send('GET', '/?token=guess')).status).toBe(403);
    const [name] = (await cookie()).split('=');
    expect((await send('GET', '/', { Cookie: `${name}=guess` })).status).toBe(401);
    expect((await send('GET', '/')).status).toBe(401);
    expect((await send('GET', '/api/events')).status).toBe(401);
    expect((await send('POST', '/api/info', { 'X-Snug': '1' }, '[]')).status).toBe(401);
  });
});

describe('requests from elsewhere', () => {
  it('refuses foreign Host headers (DNS rebinding) and lets a tunnel change the port', async () => {
    const session = await cookie();
    for (const host of [
      'evil.example',
      'localhost.evil.example',
      '127.0.0.1.nip.io',
      '192.168.0.7:80',
      'x@localhost',
    ]) {
      expect((await send('GET', '/', { Cookie: session, Host: host })).status, host).toBe(403);
    }
    for (const host of ['localhost:9000', '127.0.0.1:1', '[::1]:4', 'LOCALHOST']) {
      expect((await send('GET', '/', { Cookie: session, Host: host })).status, host).toBe(200);
    }
  });

  it('refuses foreign origins, cross-site posts and posts without the header', async () => {
    const session = await cookie();
    const own = `http://127.0.0.1:${server.port}`;
    const post = (headers: Record<string, string>) => send('POST', '/api/info', headers, '[]');
    expect((await post({ ...page(session), Origin: own })).status).toBe(200);
    expect((await post({ ...page(session), Origin: 'https://evil.example' })).status).toBe(403);
    expect((await post({ ...page(session), Origin: 'null' })).status).toBe(403);
    expect((await post({ ...page(session), Origin: `http://127.0.0.1:${server.port + 1}` })).status).toBe(403);
    expect((await post({ ...page(session), 'Sec-Fetch-Site': 'cross-site' })).status).toBe(403);
    expect((await post({ Cookie: session })).status).toBe(403);
  });

  it('listens on loopback only', async () => {
    const other = Object.values(os.networkInterfaces())
      .flat()
      .find((one) => one && !one.internal && one.family === 'IPv4');
    if (!other) return;
    await expect(
      new Promise((resolve, reject) => {
        http.get({ host: other.address, port: server.port, timeout: 2000 }, resolve).on('error', reject);
      }),
    ).rejects.toThrow(/ECONNREFUSED/u);
  });
});

describe('static files', () => {
  it('serves the page under its policy and nothing that was not built', async () => {
    const session = await cookie();
    const index = await send('GET', '/', { Cookie: session });
    expect(index.body).toContain('<title>Snug</title>');
    expect(index.headers['content-security-policy']).toBe(
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; " +
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    );
    expect(index.headers['x-content-type-options']).toBe('nosniff');
    expect((await send('GET', '/assets/main.js', { Cookie: session })).status).toBe(200);
    for (const target of [
      '/../secret.txt',
      '/..%2fsecret.txt',
      '/%2e%2e/secret.txt',
      '/assets/../../secret.txt',
      '/assets/..%5c..%5csecret.txt',
      '//secret.txt',
      '/assets/main.js.map',
      '/assets/main.js%00.html',
      'http://evil.example/secret.txt',
    ]) {
      const reply = await send('GET', target, { Cookie: session });
      expect([400, 404], target).toContain(reply.status);
      expect(reply.body).not.toContain('secret');
    }
  });

  it('answers other methods with 405', async () => {
    const session = await cookie();
    expect((await send('PUT', '/', { Cookie: session })).status).toBe(405);
  });
});

describe('calls', () => {
  it('runs a call of the contract and refuses what is not in it', async () => {
    const session = await cookie();
    expect((await call(session, 'samples')).result).toEqual({
      ok: true,
      value: [{ id: 'digits', name: 'Digits', fileBytes: 1, hasData: true }],
    });
    const bad: [string, ...unknown[]][] = [
      ['constructor'],
      ['onJobEvent'],
      ['samples', 1],
      ['openFiles', { session: '../../etc' }],
      ['openFiles', { session: 'abcdefgh', path: '/etc/passwd' }],
      ['plan', { ...request, budgetBytes: -1 }],
      ['plan', { ...request, budgetBytes: '1' }],
      ['plan', { ...request, pins: { dtype: 'fp8' } }],
      ['plan', { ...request, extra: 1 }],
      ['saveOutput', 'job-1', 'everything'],
    ];
    for (const [method, ...args] of bad) {
      const { status, result } = await call(session, method, ...args);
      expect([method, status, result.ok]).toEqual([method, 400, false]);
      expect(result.error).toMatchObject({ code: 'E_BAD_REQUEST' });
    }
    expect((await send('POST', '/api/info', page(session), '{nope')).status).toBe(400);
    expect((await send('POST', '/api/info', page(session), `["${'x'.repeat(9 * 1024 * 1024)}"]`)).status).toBe(400);
  });

  it('takes the languages from the browser', async () => {
    const session = await cookie();
    const headers = { ...page(session), 'Accept-Language': 'zh-CN,zh;q=0.9,<b>,en;q=0.8' };
    const reply = await send('POST', '/api/info', headers, '[]');
    expect(JSON.parse(reply.body)).toMatchObject({
      value: { door: 'browser', nativeDialog: false, languages: ['zh-CN', 'zh', 'en'] },
    });
  });

  it('answers an error of Snug with 200 and without the folders of the user', async () => {
    const { status, result } = await call(await cookie(), 'cancel', 'job-9');
    expect(status).toBe(200);
    expect(result).toMatchObject({ ok: false, error: { code: 'E_NOT_FOUND', message: 'No job in …/secret.' } });
    expect(JSON.stringify(result)).not.toMatch(/someone|usr\/lib/u);
  });
});

describe('uploads', () => {
  it('keeps names below the folder of the session', async () => {
    const session = await cookie();
    const good = 'session-12345678';
    for (const name of [
      '../net.onnx',
      '/etc/net.onnx',
      'a/../../net.onnx',
      'C:\\net.onnx',
      'a\\b.onnx',
      'nul.onnx',
      'net.onnx ',
      'a//b',
      '',
      '.',
      'x'.repeat(256),
      'a/'.repeat(20) + 'b',
      'bell\u0007.onnx',
    ]) {
      expect((await upload(session, good, name, 'x')).status, JSON.stringify(name)).toBe(400);
    }
    for (const folder of ['..', 'short', 'a/b/c/d/e/f', '', 'x'.repeat(65)]) {
      expect((await upload(session, folder, 'net.onnx', 'x')).status, folder).toBe(400);
    }
    expect(readdirSync(root).sort()).toEqual(['cache', 'page', 'secret.txt']);
  });

  it('opens what arrived, with its data file beside it, and tells no path', async () => {
    const session = await cookie();
    const folder = 'session-abcdefgh';
    expect((await upload(session, folder, 'my model/net.onnx', 'model')).result.ok).toBe(true);
    expect((await upload(session, folder, 'my model/net.onnx.data', 'weights')).result.ok).toBe(true);
    const { result } = await call(session, 'openFiles', { session: folder });
    expect(result).toMatchObject({ ok: true, value: { summary: { name: 'net.onnx', path: 'net.onnx' } } });
    const opened = service.calls[0]?.replace('open ', '') ?? '';
    expect(readFileSync(opened, 'utf8')).toBe('model');
    expect(readFileSync(`${opened}.data`, 'utf8')).toBe('weights');
    expect((await call(session, 'recent')).result).toMatchObject({ value: [{ name: 'net.onnx', missing: false }] });
    expect(existsSync(path.join(root, 'settings/settings.json'))).toBe(false);
  });

  it('refuses a second file of the same name and keeps the first', async () => {
    const session = await cookie();
    await upload(session, 'session-abcdefgh', 'net.onnx', 'first');
    expect((await upload(session, 'session-abcdefgh', 'net.onnx', 'second')).result.error?.code).toBe('E_EXISTS');
    await call(session, 'openFiles', { session: 'session-abcdefgh' });
    expect(readFileSync(service.calls[0]?.replace('open ', '') ?? '', 'utf8')).toBe('first');
  });

  it('refuses more than the disk holds before writing a byte', async () => {
    const session = await cookie();
    const reply = await new Promise<Reply>((resolve, reject) => {
      const sent = http.request(
        {
          host: '127.0.0.1',
          port: server.port,
          method: 'POST',
          path: '/api/upload?session=session-abcdefgh&name=net.onnx',
          headers: { ...page(session), 'Content-Length': String(2 ** 50) },
        },
        (response) => {
          let body = '';
          response.on('data', (chunk: Buffer) => (body += chunk.toString()));
          response.on('end', () => {
            sent.destroy();
            resolve({ status: response.statusCode ?? 0, headers: response.headers, body });
          });
        },
      );
      sent.on('error', reject);
      sent.write('start');
    });
    expect(reply.status).toBe(200);
    expect(JSON.parse(reply.body)).toMatchObject({ ok: false, error: { code: 'E_DISK_FULL' } });
  });

  it('leaves no part of an upload that broke off', async () => {
    const session = await cookie();
    await new Promise<void>((resolve) => {
      const sent = http.request({
        host: '127.0.0.1',
        port: server.port,
        method: 'POST',
        path: '/api/upload?session=session-abcdefgh&name=net.onnx',
        headers: { ...page(session), 'Content-Length': '1000' },
      });
      sent.on('error', () => resolve());
      sent.write('half', () => setTimeout(() => sent.destroy(new Error('gone')), 50));
    });
    await expect
      .poll(async () => (await call(session, 'openFiles', { session: 'session-abcdefgh' })).result.error)
      .toMatchObject({ code: 'E_NOT_FOUND' });
  });

  it('attaches data that was uploaded', async () => {
    const session = await cookie();
    await upload(session, 'data-12345678', 'samples.npy', 'x');
    const { result } = await call(session, 'attachData', 'model-1', { session: 'data-12345678' });
    expect(result).toMatchObject({ ok: true, value: { data: { name: 'samples.npy', samples: 7 } } });
  });
});

describe('results', () => {
  async function fitted(session: string): Promise<void> {
    await upload(session, 'session-abcdefgh', 'net.onnx', 'model');
    await call(session, 'openFiles', { session: 'session-abcdefgh' });
    await call(session, 'startFit', request);
  }

  it('offers the model once, under its own name', async () => {
    const session = await cookie();
    await fitted(session);
    const { result } = await call(session, 'saveOutput', 'job-1', 'model');
    const { url } = result.value as { url: string };
    expect((await send('GET', url)).status).toBe(401);
    const file = await send('GET', url, { Cookie: session });
    expect(file.body).toBe('abc');
    expect(file.headers['content-disposition']).toBe(
      `attachment; filename="net.snug.onnx"; filename*=UTF-8''net.snug.onnx`,
    );
    expect((await send('GET', url, { Cookie: session })).status).toBe(404);
  });

  it('saves the report without paths', async () => {
    const session = await cookie();
    await fitted(session);
    const { result } = await call(session, 'saveOutput', 'job-1', 'report-json');
    const file = await send('GET', (result.value as { url: string }).url, { Cookie: session });
    expect(JSON.parse(file.body)).toMatchObject({
      model: { path: 'net.onnx' },
      output: { path: 'net.snug.onnx' },
    });
  });

  it('says so when there is no result', async () => {
    expect((await call(await cookie(), 'saveOutput', 'job-7', 'model')).result.error).toMatchObject({
      code: 'E_NOT_FOUND',
    });
  });

  it('streams job events and repeats the newest to a page that lost its connection', async () => {
    const session = await cookie();
    const listen = (headers: Record<string, string>, until: RegExp) =>
      new Promise<string>((resolve, reject) => {
        const got = http.get(
          { host: '127.0.0.1', port: server.port, path: '/api/events', headers: { Cookie: session, ...headers } },
          (response) => {
            let text = '';
            response.on('data', (chunk: Buffer) => {
              text += chunk.toString();
              if (until.test(text)) {
                got.destroy();
                resolve(text);
              }
            });
          },
        );
        got.on('error', reject);
      });
    const live = listen({}, /"kind":"done"/u);
    const timer = setInterval(
      () => service.emit({ jobId: 'job-1', kind: 'done', report: fakeReport('/home/someone/net.snug.onnx') }),
      20,
    );
    expect(await live).toContain('"path":"net.onnx"');
    clearInterval(timer);
    const sample = { atMs: 1, usedBytes: 2, deviceUsedBytes: null, deviceTotalBytes: null };
    service.emit({ jobId: 'job-1', kind: 'memory', sample });
    const accuracy = { runs: [], summary: null, calibrations: [], calibrating: null };
    service.emit({ jobId: 'job-1', kind: 'accuracy', accuracy });
    const again = await listen({ 'Last-Event-ID': '0' }, /"kind":"accuracy"/u);
    // Neither a sample nor news of the record takes the place of the end of the job.
    expect(again).toMatch(/id: \d+\ndata: \{"jobId":"job-1","kind":"done"/u);
    expect(again).not.toContain('"kind":"memory"');
  });

  it('removes uploads and results when it ends', async () => {
    const session = await cookie();
    await fitted(session);
    expect(readdirSync(path.join(root, 'cache'))).toHaveLength(1);
    await server.close();
    expect(readdirSync(path.join(root, 'cache'))).toHaveLength(0);
    expect(service.calls.at(-1)).toBe('close');
  });
});
