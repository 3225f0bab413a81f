import type { Channel } from './protocol.js';

interface ParentPort {
  postMessage(message: unknown): void;
  on(event: 'message', listener: (event: { data: unknown }) => void): void;
}

/** The pipe to whoever started this process: the parent port of an Electron utility process, else Node IPC. */
export function ownChannel<Out, In>(): Channel<Out, In> {
  const { parentPort } = process as unknown as { parentPort?: ParentPort };
  if (parentPort) {
    return {
      post: (message) => parentPort.postMessage(message),
      onMessage: (listener) => parentPort.on('message', ({ data }) => listener(data as In)),
      // A utility process is ended by its owner together with the port.
      onClose: () => undefined,
    };
  }
  return {
    post: (message) => void process.send?.(message),
    onMessage: (listener) => void process.on('message', (message) => listener(message as In)),
    onClose: (listener) => void process.on('disconnect', listener),
  };
}
