import { type BrowserWindow, dialog, Notification, powerSaveBlocker } from 'electron';
import type { Door } from '../src/app/door/door.js';
import type { JobEvent } from '../src/contract/types.js';
import type { Words } from './words.js';

/** Shorter jobs end before anyone looks away. */
const notifyAfterMs = 10_000;

/** What the system shows of a running job: progress on the taskbar, no sleep, a word at the end. */
export function showJobs(door: Door, window: BrowserWindow, words: Words): void {
  const started = new Map<string, number>();
  let blocker: number | null = null;

  const allowSleep = (): void => {
    if (blocker !== null && started.size === 0) {
      powerSaveBlocker.stop(blocker);
      blocker = null;
    }
  };

  door.onJobEvent((event: JobEvent) => {
    if (window.isDestroyed()) return;
    const at = standing(event);
    if (at) {
      if (!started.has(event.jobId)) started.set(event.jobId, Date.now() - at.elapsedMs);
      blocker ??= powerSaveBlocker.start('prevent-app-suspension');
      const { done, total } = at;
      // Above 1 means "busy, no telling how long".
      window.setProgressBar(total === null || total <= 0 ? 2 : Math.min(1, done / total));
      return;
    }
    if (event.kind !== 'done' && event.kind !== 'trained' && event.kind !== 'failed') return;
    const ranMs = Date.now() - (started.get(event.jobId) ?? Date.now());
    started.delete(event.jobId);
    allowSleep();
    window.setProgressBar(-1);
    const cancelled = event.kind === 'failed' && event.error.code === 'E_CANCELLED';
    if (!cancelled && ranMs > notifyAfterMs && !window.isFocused() && Notification.isSupported()) {
      const notification = new Notification({ title: 'Snug', body: words[event.kind] });
      notification.on('click', () => window.show());
      notification.show();
    }
  });
}

/** How far a running job is; null for an event that does not tell. */
function standing(event: JobEvent): { done: number; total: number | null; elapsedMs: number } | null {
  if (event.kind === 'progress') return { ...event.progress, elapsedMs: event.elapsedMs };
  if (event.kind !== 'training') return null;
  const { step, totalSteps, elapsedMs } = event.training;
  return { done: step, total: totalSteps, elapsedMs };
}

/** Closing the window while a job runs asks first; the safe answer is the default one. */
export function askBeforeClosing(door: Door, window: BrowserWindow, words: Words): void {
  let asking = false;
  window.on('close', (event) => {
    if (door.running().length === 0) return;
    event.preventDefault();
    if (asking) return;
    asking = true;
    void (async () => {
      const { response } = await dialog.showMessageBox(window, {
        type: 'question',
        message: words.stillWorking,
        detail: words.stillWorkingDetail,
        buttons: [words.keepWorking, words.stopAndQuit],
        defaultId: 0,
        cancelId: 0,
      });
      asking = false;
      if (response !== 1) return;
      await Promise.allSettled(door.running().map((jobId) => door.cancel(jobId)));
      window.destroy();
    })();
  });
}
