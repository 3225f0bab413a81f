import { app, type WebContents } from 'electron';

const limitMs = 60_000;

/**
 * `--self-test`: proves without an inspector that a packaged app starts, that its page loads under its policy
 * and that a call goes through the bridge to an engine process and back. Prints one line and exits 0 or 1.
 */
export function runSelfTest(page: WebContents): void {
  const end = (problem: string | null): void => {
    process.stdout.write(problem === null ? 'self-test passed\n' : `self-test failed: ${problem}\n`);
    app.exit(problem === null ? 0 : 1);
  };
  setTimeout(() => end('it took too long'), limitMs);
  page.on('did-fail-load', (_event, code, text) => end(`the page did not load (${code} ${text})`));
  page.on('preload-error', (_event, _path, error) => end(`the preload failed (${error.message})`));
  page.on('render-process-gone', (_event, details) => end(`the page crashed (${details.reason})`));
  page.once('did-finish-load', () => {
    const script = `(async () => {
      const [sample] = (await window.snug.samples()).value ?? [];
      const opened = sample && (await window.snug.openSample(sample.id));
      return typeof window.require === 'undefined' && Boolean(opened?.ok);
    })()`;
    page.executeJavaScript(script).then(
      (passed: unknown) => end(passed === true ? null : 'the sample could not be opened'),
      (error: unknown) => end(String(error)),
    );
  });
}
