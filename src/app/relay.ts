import type { ProcessExit } from '../runtime/errors.js';
import type { FromProcess } from '../runtime/protocol.js';
import type { RuntimeProcess, SpawnRuntime } from '../runtime/spawn.js';
import type { RelayDown, RelayUp } from './engine-protocol.js';

/**
 * Engine side of the relay: a {@link SpawnRuntime} for an engine that may not start processes itself. An
 * Electron utility process cannot: only the main process forks utility processes, so the door starts them
 * and passes every message on.
 */
export function relaySpawn(post: (message: RelayUp) => void): {
  spawn: SpawnRuntime;
  receive(message: RelayDown): void;
} {
  interface Remote {
    pid: number | undefined;
    message: (message: FromProcess) => void;
    exit: (exit: ProcessExit) => void;
    close: () => void;
  }
  const remotes = new Map<number, Remote>();
  let last = 0;
  const spawn: SpawnRuntime = (request) => {
    const relay = ++last;
    const nothing = (): void => undefined;
    const remote: Remote = { pid: undefined, message: nothing, exit: nothing, close: nothing };
    remotes.set(relay, remote);
    post({ relay, spawn: request });
    const handle: RuntimeProcess = {
      get pid() {
        return remote.pid;
      },
      channel: {
        post: (message) => post({ relay, message }),
        onMessage: (listener) => void (remote.message = listener),
        onClose: (listener) => void (remote.close = listener),
      },
      kill: () => post({ relay, kill: true }),
      onExit: (listener) => void (remote.exit = listener),
    };
    return handle;
  };
  return {
    spawn,
    receive(message) {
      const remote = remotes.get(message.relay);
      if (!remote) return;
      if ('message' in message) remote.message(message.message);
      else if ('pid' in message) remote.pid = message.pid ?? undefined;
      else {
        remotes.delete(message.relay);
        remote.close();
        remote.exit(message.exit);
      }
    },
  };
}

/** Door side: starts runtime processes for one engine and passes messages both ways. */
export class RelayHost {
  private readonly running = new Map<number, RuntimeProcess>();

  constructor(
    private readonly spawn: SpawnRuntime,
    private readonly post: (message: RelayDown) => void,
  ) {}

  receive(message: RelayUp): void {
    const { relay } = message;
    if ('spawn' in message) {
      const child = this.spawn(message.spawn);
      this.running.set(relay, child);
      this.post({ relay, pid: child.pid ?? null });
      child.channel.onMessage((inner) => this.post({ relay, message: inner }));
      child.onExit((exit) => {
        this.running.delete(relay);
        this.post({ relay, exit });
      });
    } else if ('kill' in message) this.running.get(relay)?.kill();
    else this.running.get(relay)?.channel.post(message.message);
  }

  killAll(): void {
    for (const child of this.running.values()) child.kill();
    this.running.clear();
  }
}
