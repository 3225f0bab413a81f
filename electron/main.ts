import path from 'node:path';
import { app, type BrowserWindow, session } from 'electron';
import { openAccuracy } from '../src/app/accuracy/store.js';
import { TrainingStore } from '../src/app/training-store.js';
import { createDoor, type Door } from '../src/app/door/door.js';
import { doorInfo } from '../src/app/door/info.js';
import { readPageFiles } from '../src/app/door/page-files.js';
import { errorWithoutPaths } from '../src/app/door/privacy.js';
import { createRecents } from '../src/app/door/recents.js';
import { openSettings, settingsDirectory } from '../src/app/door/settings.js';
import { SnugError } from '../src/contract/errors.js';
import { channels } from './channels.js';
import { desktopCalls } from './desktop.js';
import { desktopEngine, killEngines } from './engine.js';
import { askBeforeClosing, showJobs } from './jobs.js';
import { filesOf } from './launch-files.js';
import { setMenu } from './menu.js';
import { registerPageScheme, servePage } from './protocol.js';
import { type DesktopCalls, routeCalls } from './router.js';
import { forbidNavigation, forbidNetwork, forbidPermissions } from './security.js';
import { runSelfTest } from './self-test.js';
import { createWindow } from './window.js';
import { words } from './words.js';

const selfTest = process.argv.includes('--self-test');
const programArguments = app.isPackaged ? 1 : 2;

let window: BrowserWindow | null = null;
let door: Door | null = null;
let desktop: DesktopCalls | null = null;
let pageReady = false;
/** Files asked for before the page could show them. */
let waiting: string[] = [];

app.enableSandbox();
registerPageScheme();
forbidNavigation();
// Without it Windows shows notifications and jump lists under the runtime's name.
app.setAppUserModelId('org.snug.app');

if (selfTest || app.requestSingleInstanceLock()) void start();
else app.quit();

async function start(): Promise<void> {
  // macOS sends this before the app is ready.
  app.on('open-file', (event, file) => {
    event.preventDefault();
    show([file]);
  });
  app.on('second-instance', (_event, argv, workingDirectory) => {
    if (window?.isMinimized()) window.restore();
    window?.focus();
    show(filesOf(argv, workingDirectory, programArguments));
  });
  app.on('window-all-closed', () => app.quit());
  app.on('will-quit', () => killEngines());

  await app.whenReady();
  const pageSession = session.defaultSession;
  forbidPermissions(pageSession);
  forbidNetwork(pageSession);
  servePage(pageSession, readPageFiles(path.join(import.meta.dirname, '../renderer')));

  const languages = app.getPreferredSystemLanguages();
  const text = words(languages);
  const settings = await openSettings(settingsDirectory());
  const theDoor = createDoor({
    service: desktopEngine(openAccuracy(settingsDirectory()), new TrainingStore(settingsDirectory())),
    recents: createRecents(settings),
    info: doorInfo('desktop', languages),
    // Results stand beside the model; a bundled sample has no place of the user's, so it goes to Downloads.
    outputDirectory: (origin) => Promise.resolve(origin === 'sample' ? app.getPath('downloads') : undefined),
  });
  door = theDoor;
  const calls = desktopCalls(theDoor, () => window, text);
  desktop = calls;
  routeCalls(theDoor, calls, () => window?.webContents ?? null);
  setMenu(text, {
    open: () => {
      void calls.chooseModel().then((paths) => show(paths ?? []));
    },
  });

  window = createWindow({ show: !selfTest });
  window.on('closed', () => (window = null));
  theDoor.onJobEvent((event) => window?.webContents.send(channels.job, event));
  showJobs(theDoor, window, text);
  askBeforeClosing(theDoor, window, text);
  window.webContents.on('did-finish-load', () => {
    pageReady = true;
    show(waiting.splice(0));
  });
  if (selfTest) runSelfTest(window.webContents);
  else show(filesOf(process.argv, process.cwd(), programArguments));
}

/** Opens files from outside the page and tells it. Opening never starts work. */
function show(files: string[]): void {
  if (files.length === 0) return;
  if (!pageReady || !door) {
    waiting = files;
    return;
  }
  door.openPaths(files, 'file').then(
    (value) => {
      desktop?.opened(files);
      window?.webContents.send(channels.opened, { ok: true, value });
    },
    (thrown: unknown) =>
      window?.webContents.send(channels.opened, {
        ok: false,
        error: errorWithoutPaths(SnugError.from(thrown).toReport()),
      }),
  );
}
