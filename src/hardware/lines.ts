import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** A program that goes on printing; `stop` ends it at once. */
export interface Listening {
  stop(): void;
}

/** Starts programs that print line after line for as long as they are wanted. */
export interface Lines {
  /** Runs a program without a shell. `onEnd` is called once when it is gone or could not be started. */
  listen(command: string, args: readonly string[], onLine: (line: string) => void, onEnd: () => void): Listening;
}

/** {@link Lines} of the computer this runs on. */
export const nodeLines: Lines = {
  listen(command, args, onLine, onEnd) {
    const child = spawn(command, [...args], {
      stdio: ['ignore', 'pipe', 'ignore'],
      windowsHide: true,
      // Numbers and words of the tools must not follow the user's language.
      env: { ...process.env, LC_ALL: 'C' },
    });
    let over = false;
    const end = (): void => {
      if (over) return;
      over = true;
      process.off('exit', kill);
      onEnd();
    };
    const kill = (): void => void child.kill('SIGKILL');
    process.once('exit', kill);
    child.on('error', end);
    child.on('close', end);
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (!over) onLine(line);
    });
    return { stop: kill };
  },
};
