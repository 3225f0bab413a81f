import { existsSync } from 'node:fs';
import path from 'node:path';

/**
 * Files named on a command line, as absolute paths that exist. Switches and the program itself are left out.
 *
 * @param programArguments how many leading arguments are the program: 1 when packaged, 2 with a development runtime
 */
export function filesOf(argv: readonly string[], workingDirectory: string, programArguments: number): string[] {
  return argv
    .slice(programArguments)
    .filter((argument) => !argument.startsWith('-') && argument.length > 0)
    .map((argument) => path.resolve(workingDirectory, argument))
    .filter((file) => existsSync(file));
}
