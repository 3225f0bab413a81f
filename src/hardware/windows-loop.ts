import { objectsOf, numberOf, parseAdapterUsage, parseProcessUsage } from './windows-counters.js';

/**
 * PowerShell that prints one line of JSON every `intervalMs` until its reader goes away. CIM classes, not counter
 * paths: names of counter paths follow the language of Windows.
 *
 * @param programs name of the programs whose working sets count, without `.exe`
 */
export function windowsLoop(what: 'gpu' | 'working-sets', programs: string, intervalMs: number): string {
  const classOf = (name: string): string => `Win32_PerfFormattedData_GPUPerformanceCounters_${name}`;
  const answer =
    what === 'gpu'
      ? `a=@(Get-CimInstance ${classOf('GPUAdapterMemory')}|Select-Object Name,DedicatedUsage,SharedUsage);` +
        `p=@(Get-CimInstance ${classOf('GPUProcessMemory')}|Select-Object Name,DedicatedUsage,SharedUsage)`
      : `w=@(Get-Process -Name '${programs.replaceAll("'", "''")}'|Select-Object Id,WorkingSet64)`;
  return (
    "$ErrorActionPreference='SilentlyContinue';[Console]::OutputEncoding=[Text.Encoding]::UTF8;" +
    `while($true){[Console]::Out.WriteLine((ConvertTo-Json -Compress -Depth 3 -InputObject @{${answer}}));` +
    `Start-Sleep -Milliseconds ${Math.round(intervalMs)}}`
  );
}

/**
 * One line of {@link windowsLoop} → bytes; null for anything else. Memory the adapter shares with the computer
 * counts where it has little of its own (`shared`).
 *
 * @param luid the adapter, see `luidKey`; null for working sets
 */
export function parseLoopLine(
  line: string,
  luid: string | null,
  pids: readonly number[],
  shared: boolean,
): { usedBytes: number | null; totalBytes: null; oursBytes: number | null } | null {
  const [answer] = objectsOf(line);
  if (answer === undefined) return null;
  const sets = objectsOf(JSON.stringify(answer['w'] ?? null));
  if (luid === null) {
    if (!('w' in answer)) return null;
    const mine = sets.filter((set) => pids.includes(numberOf(set['Id']) ?? -1));
    const oursBytes = mine.reduce((sum, set) => sum + (numberOf(set['WorkingSet64']) ?? 0), 0);
    return { usedBytes: null, totalBytes: null, oursBytes };
  }
  const bytes = (row: { dedicatedBytes: number; sharedBytes: number }): number =>
    row.dedicatedBytes + (shared ? row.sharedBytes : 0);
  const adapter = parseAdapterUsage(JSON.stringify(answer['a'] ?? null)).find((row) => row.luid === luid);
  const processes = parseProcessUsage(JSON.stringify(answer['p'] ?? null));
  const mine = processes.filter((row) => row.luid === luid && pids.includes(row.pid));
  return {
    usedBytes: adapter === undefined ? null : bytes(adapter),
    totalBytes: null,
    oursBytes: processes.length === 0 ? null : mine.reduce((sum, row) => sum + bytes(row), 0),
  };
}
