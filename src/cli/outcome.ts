/** Thrown by a command that printed its result but found that nothing fits: exit code 3. */
export class NothingFits extends Error {}
