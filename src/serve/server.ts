import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { createDoor, type Door } from '../app/door/door.js';
import { doorInfo } from '../app/door/info.js';
import { type PageFile, pageHeaders, readPageFiles } from '../app/door/page-files.js';
import { errorWithoutPaths } from '../app/door/privacy.js';
import { createRecents } from '../app/door/recents.js';
import { cacheDirectory, openSettings, settingsDirectory } from '../app/door/settings.js';
import type { EngineService } from '../app/engine-service.js';
import { type Result, SnugError } from '../contract/errors.js';
import { badRequest, type CallHandlers, dispatch } from '../contract/validate.js';
import { type Access, createAccess } from './access.js';
import { contentDisposition, createDownloads, type Downloads } from './downloads.js';
import { createEventStream, type EventStream } from './events.js';
import { createUploads, type Uploads } from './uploads.js';

/** Arguments are ids and pins; the largest, a dtype for each of 100,000 weights, stays below this. */
const maxCallBytes = 8 * 1024 * 1024;

export interface ServerOptions {
  service: EngineService;
  /** Folder of the built page. */
  staticDir: string;
  /** 0 or absent: any free port. */
  port?: number;
  host?: '127.0.0.1' | '::1';
  settingsDir?: string;
  cacheDir?: string;
}

export interface SnugServer {
  /** Address with a one-time token in it. */
  url: string;
  port: number;
  /** Another one-time address, for a second browser or when the first was used up. */
  newUrl(): string;
  /** Ends jobs, streams and connections, and removes uploads and results that were not saved. */
  close(): Promise<void>;
}

interface Parts {
  access: Access;
  door: Door;
  uploads: Uploads;
  downloads: Downloads;
  events: EventStream;
  files: ReadonlyMap<string, PageFile>;
}

/**
 * The browser door: Snug's page and its calls over HTTP, on the loopback interface only.
 *
 * @throws SnugError `E_NOT_FOUND` without a built page, `E_USAGE` for a port that is taken
 */
export async function startServer(options: ServerOptions): Promise<SnugServer> {
  const files = readPageFiles(options.staticDir);
  const uploads = await createUploads(options.cacheDir ?? cacheDirectory());
  const settings = await openSettings(options.settingsDir ?? settingsDirectory());
  const door = createDoor({
    service: options.service,
    recents: createRecents(settings),
    info: doorInfo('browser', []),
    // Results are downloads here; beside the upload or the bundled sample nobody would find them.
    outputDirectory: (origin) => (origin === 'file' ? Promise.resolve(undefined) : uploads.outputDirectory()),
  });
  const events = createEventStream();
  door.onJobEvent((event) => events.send(event));
  const access = createAccess();
  const parts: Parts = { access, door, uploads, downloads: createDownloads(door), events, files };

  const server = createServer((request, response) => {
    route(parts, request, response).catch((thrown: unknown) => {
      const { code } = SnugError.from(thrown);
      if (!response.headersSent) sendError(response, code === 'E_BAD_REQUEST' ? 400 : 500, thrown);
      else response.destroy();
    });
  });
  // A large upload may take longer than Node's five minutes for a request.
  server.requestTimeout = 0;

  const host = options.host ?? '127.0.0.1';
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port: options.port ?? 0 }, resolve);
  }).catch(async (error: unknown) => {
    await uploads.close();
    throw new SnugError('E_USAGE', `Snug cannot listen on port ${options.port ?? 0}.`, {
      action: 'Choose another port, or 0 for any free one.',
      details: String(error),
      cause: error,
    });
  });
  const { port } = server.address() as AddressInfo;
  const newUrl = () => `http://${host.includes(':') ? `[${host}]` : host}:${port}/?token=${access.newToken()}`;

  let closing: Promise<void> | null = null;
  return {
    url: newUrl(),
    port,
    newUrl,
    close() {
      closing ??= (async () => {
        events.close();
        server.close();
        server.closeAllConnections();
        await door.close();
        await uploads.close();
      })();
      return closing;
    },
  };
}

async function route(parts: Parts, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const refusal = parts.access.checkOrigin(request);
  if (refusal) return sendText(response, refusal.status, refusal.reason);
  const target = request.url ?? '';
  // The base only completes the path; it is never contacted. `//name` and `http://name` would replace it.
  const base = 'http://snug.invalid';
  if (!/^\/(?!\/)/u.test(target) || !URL.canParse(target, base)) {
    return sendText(response, 400, 'This address cannot be read.');
  }
  const url = new URL(target, base);

  const token = url.searchParams.get('token');
  if (request.method === 'GET' && url.pathname === '/' && token !== null) return enter(parts, request, response, token);
  if (!parts.access.hasSession(request)) {
    return sendText(response, 401, 'Open Snug with the link that "snug serve" printed.');
  }
  if (request.method === 'GET' || request.method === 'HEAD') return await get(parts, request, response, url);
  if (request.method === 'POST') return await post(parts, request, response, url);
  response.setHeader('Allow', 'GET, HEAD, POST');
  sendText(response, 405, 'Snug does not know this method.');
}

function enter(parts: Parts, request: IncomingMessage, response: ServerResponse, token: string): void {
  const cookie = parts.access.redeem(token);
  if (cookie === null && !parts.access.hasSession(request)) {
    return sendText(response, 403, 'This link was used already. Press Enter where "snug serve" runs to get a new one.');
  }
  // Redirect, so that the token stays neither in the address bar nor in the history.
  response.writeHead(303, {
    Location: '/',
    'Cache-Control': 'no-store',
    'Referrer-Policy': 'no-referrer',
    ...(cookie === null ? {} : { 'Set-Cookie': cookie }),
  });
  response.end();
}

async function get(parts: Parts, request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
  if (url.pathname === '/api/events') return parts.events.attach(request, response);
  const file = parts.files.get(url.pathname);
  if (file) {
    response.writeHead(200, {
      ...pageHeaders("'self'"),
      'Content-Type': file.type,
      'Content-Length': file.body.length,
      'Cache-Control': 'no-store',
    });
    response.end(request.method === 'HEAD' ? undefined : file.body);
    return;
  }
  const id = /^\/api\/download\/([0-9a-f]{32})$/u.exec(url.pathname)?.[1];
  const download = id === undefined || request.method === 'HEAD' ? null : parts.downloads.take(id);
  if (!download) return sendText(response, 404, 'There is nothing here.');
  response.writeHead(200, {
    'Content-Type': download.type,
    'Content-Length': download.bytes,
    'Content-Disposition': contentDisposition(download.name),
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
    // A saved report opened from here must not run as part of this site.
    'Content-Security-Policy': 'sandbox',
  });
  await pipeline(download.open(), response);
}

async function post(parts: Parts, request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
  // A page of another site cannot add a header of its own without asking first, and nobody answers that question.
  if (request.headers['x-snug'] !== '1') return sendText(response, 403, 'Snug answers only to its own page.');
  if (url.pathname === '/api/upload') return await receive(parts, request, response, url);
  const name = /^\/api\/([A-Za-z]{1,40})$/u.exec(url.pathname)?.[1];
  if (name === undefined) return sendText(response, 404, 'There is nothing here.');
  const args: unknown = parseJson(await readBody(request));
  await answer(response, () => dispatch(handlers(parts, request), name, args));
}

async function receive(parts: Parts, request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
  const bytes = Number(request.headers['content-length'] ?? Number.NaN);
  if (!Number.isSafeInteger(bytes)) throw badRequest('an upload must say how long it is');
  const session = url.searchParams.get('session') ?? '';
  const name = url.searchParams.get('name') ?? '';
  await answer(response, () => parts.uploads.receive(session, name, bytes, request));
  // Refused before its end: the rest is taken and thrown away, or the page would never see the answer.
  request.resume();
}

function handlers({ door, uploads, downloads }: Parts, request: IncomingMessage): CallHandlers {
  return {
    info: () => ({ ...door.info(), languages: acceptedLanguages(request) }),
    hardware: () => door.hardware(),
    samples: () => door.samples(),
    recent: () => door.recent(),
    openFiles: async ({ session }) => door.openPaths(await uploads.paths(session), 'upload'),
    chooseModel: () => null,
    openSample: (id) => door.openSample(id),
    openRecent: (id) => door.openRecent(id),
    attachData: async (modelId, { session }) => door.attachPaths(modelId, await uploads.paths(session)),
    attachLabels: async (modelId, { session }) => door.attachLabelPaths(modelId, await uploads.paths(session)),
    plan: (planRequest) => door.plan(planRequest),
    accuracy: () => door.accuracy(),
    clearAccuracy: () => door.clearAccuracy(),
    calibrate: (provider) => door.calibrate(provider),
    stopCalibration: () => door.stopCalibration(),
    measurePruning: (modelId) => door.measurePruning(modelId),
    stopMeasuringPruning: (modelId) => door.stopMeasuringPruning(modelId),
    measureBatches: (wanted) => door.measureBatches(wanted),
    stopMeasuringBatches: (modelId) => door.stopMeasuringBatches(modelId),
    trainingSetup: (modelId) => door.trainingSetup(modelId),
    attachTraining: async (modelId, role, { session }) =>
      door.attachTrainingPaths(modelId, role, await uploads.paths(session)),
    planTraining: (wanted) => door.planTraining(wanted),
    startTraining: (wanted) => door.startTraining(wanted),
    resumeTraining: (modelId) => door.resumeTraining(modelId),
    discardTraining: (modelId) => door.discardTraining(modelId),
    stopTraining: (jobId) => door.stopTraining(jobId),
    openOutput: (jobId) => door.openOutput(jobId),
    startFit: (planRequest) => door.startFit(planRequest),
    cancel: (jobId) => door.cancel(jobId),
    jobs: () => door.jobs(),
    dismissJob: (jobId) => door.dismissJob(jobId),
    saveOutput: (jobId, what) => downloads.offer(jobId, what),
    diagnostics: (error) => door.diagnostics(error),
  };
}

/** Languages of the browser in the user's order; its header is sorted already. */
function acceptedLanguages(request: IncomingMessage): string[] {
  const header = request.headers['accept-language'] ?? '';
  return header
    .split(',')
    .map((one) => one.split(';')[0]?.trim() ?? '')
    .filter((tag) => /^[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*$/u.test(tag));
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxCallBytes) throw badRequest('it is too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw badRequest('it is not JSON');
  }
}

/** Runs a call; an error of Snug is an answer like any other, a request outside the contract is status 400. */
async function answer(response: ServerResponse, run: () => Promise<unknown>): Promise<void> {
  try {
    sendJson(response, 200, { ok: true, value: await run() });
  } catch (thrown) {
    sendError(response, SnugError.from(thrown).code === 'E_BAD_REQUEST' ? 400 : 200, thrown);
  }
}

function sendError(response: ServerResponse, status: number, thrown: unknown): void {
  sendJson(response, status, { ok: false, error: errorWithoutPaths(SnugError.from(thrown).toReport()) });
}

function sendJson(response: ServerResponse, status: number, result: Result<unknown>): void {
  response.writeHead(status, {
    'Content-Type': 'application/json',
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
  });
  response.end(JSON.stringify(result));
}

function sendText(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { ...pageHeaders("'none'"), 'Content-Type': 'text/plain; charset=utf-8' });
  response.end(`${text}\n`);
}
