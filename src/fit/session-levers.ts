import type { SessionLevers } from '../contract/types.js';

/** Metadata key under which a written model carries the session options its plan counts on, as JSON. */
export const sessionMetadataKey = 'snug.session';

/** The runtime has fewer optimizers; a foreign file may name any number. */
const mostDisabled = 100;

/** The session options a model written by `snug fit` counts on; onnxruntime's defaults otherwise. */
export function sessionLevers(metadata: ReadonlyMap<string, string>): SessionLevers {
  const levers: SessionLevers = { memoryPattern: true };
  try {
    const session = JSON.parse(metadata.get(sessionMetadataKey) ?? '{}') as Record<keyof SessionLevers, unknown>;
    levers.memoryPattern = session.memoryPattern !== false;
    const names = (list: unknown): string[] =>
      (Array.isArray(list) ? list : []).filter((name): name is string => typeof name === 'string');
    const disabled = names(session.disabledOptimizers)
      .filter((name) => /^\w{1,64}$/.test(name))
      .slice(0, mostDisabled);
    if (disabled.length > 0) levers.disabledOptimizers = disabled;
    const left = names(session.cpuNodes);
    if (left.length > 0) levers.cpuNodes = left;
  } catch {
    // Not what Snug writes.
  }
  return levers;
}
