import os from 'node:os';
import type { DoorInfo } from '../../contract/api.js';
import type { ErrorReport } from '../../contract/errors.js';
import type { HardwareReading } from '../../contract/types.js';
import { errorWithoutPaths, textWithoutPaths } from './privacy.js';

/** Text for a bug report: versions, hardware readings, the error. Folders of the user are left out. */
export function diagnosticsText(info: DoorInfo, hardware: HardwareReading | null, error: ErrorReport | null): string {
  const lines = [
    `Snug ${info.version} (${info.door}), ONNX Runtime ${info.onnxruntime}`,
    `${os.type()} ${os.release()} ${process.arch}, Node ${process.versions.node}` +
      (process.versions.electron ? `, Electron ${process.versions.electron}` : ''),
  ];
  if (hardware) {
    const { cpu, ram, gpus } = hardware;
    lines.push(`CPU: ${cpu.name}, ${cpu.cores} cores`, `RAM: ${ram.totalBytes} bytes, ${ram.freeBytes} free`);
    for (const gpu of gpus) {
      lines.push(
        `GPU: ${gpu.name}, ${gpu.totalBytes ?? 'unknown'} bytes, ${gpu.freeBytes ?? 'unknown'} free ` +
          `(${gpu.source}, ${gpu.confidence}; providers: ${gpu.providers.join(', ') || 'none'})`,
        ...gpu.notes.map((note) => `  note: ${note}`),
      );
    }
  } else {
    lines.push('Hardware: could not be read');
  }
  if (error) {
    const report = errorWithoutPaths(error);
    lines.push('', `${report.code}: ${report.message}`, report.action);
    if (Object.keys(report.params).length > 0) lines.push(JSON.stringify(report.params));
    if (report.details) lines.push(report.details);
  }
  return textWithoutPaths(lines.join('\n'));
}
