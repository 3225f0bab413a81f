import type { IncomingMessage, ServerResponse } from 'node:http';
import type { JobEvent } from '../contract/types.js';

const heartbeatMs = 15_000;

/** Events that say nothing of where their job stands. */
const apart: ReadonlySet<JobEvent['kind']> = new Set(['accuracy', 'pruning', 'batches']);

export interface EventStream {
  send(event: JobEvent): void;
  /** Answers a request with a stream that stays open. */
  attach(request: IncomingMessage, response: ServerResponse): void;
  close(): void;
}

/**
 * Job events as server-sent events. A page whose connection broke names the last event it saw; it then gets
 * the newest event of every job since, so that the end of a job is never lost.
 */
export function createEventStream(): EventStream {
  const open = new Set<ServerResponse>();
  const newest = new Map<string, { id: number; event: JobEvent }>();
  let lastId = 0;

  const write = (response: ServerResponse, id: number, event: JobEvent): void => {
    response.write(`id: ${id}\ndata: ${JSON.stringify(event)}\n\n`);
  };
  const heartbeat = setInterval(() => {
    for (const response of open) response.write(': still here\n\n');
  }, heartbeatMs);
  heartbeat.unref();

  return {
    send(event) {
      lastId += 1;
      // Samples are worth nothing later; they must not take the place of the event that tells where a job stands.
      if (event.kind !== 'memory')
        newest.set(`${event.jobId} ${apart.has(event.kind) ? event.kind : ''}`, { id: lastId, event });
      for (const response of open) write(response, lastId, event);
    },
    attach(request, response) {
      response.writeHead(200, {
        'Content-Type': 'text/event-stream',
        'Cache-Control': 'no-store',
        'X-Content-Type-Options': 'nosniff',
      });
      response.write('retry: 1000\n\n');
      const seen = Number(request.headers['last-event-id'] ?? Number.NaN);
      for (const { id, event } of newest.values()) if (id > seen) write(response, id, event);
      open.add(response);
      response.on('close', () => open.delete(response));
    },
    close() {
      clearInterval(heartbeat);
      for (const response of open) response.end();
      open.clear();
    },
  };
}
