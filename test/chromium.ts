import { findBrowser } from '../build/find-browser.js';

const found = await findBrowser();

/** A browser of the Chromium family that is here: SNUG_CHROMIUM, the system's, Playwright's own; null if none. */
export const executablePath: string | null = 'path' in found ? found.path : null;

/** Why there is no browser, as the title of a skipped suite; null when there is one. */
export const noBrowserReason: string | null = 'reason' in found ? found.reason : null;

/** A quiet start without network of its own; the sandbox stays on except for root, where Chromium refuses it. */
export const chromiumFlags: readonly string[] = [
  ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
