import { existsSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export interface BundledSample {
  id: string;
  name: string;
  modelPath: string;
  dataPath: string | null;
  fileBytes: number;
}

/** Folder with the samples: beside the sources in a clone, copied beside the built code in a package. */
function samplesFolder(): string | null {
  const here = path.dirname(fileURLToPath(import.meta.url));
  const places = ['samples', '../samples', '../src/app/samples', '../../src/app/samples'].map((p) =>
    path.resolve(here, p),
  );
  const found = places.find((place) => existsSync(place));
  // In a package the samples lie beside the archive: native code cannot open a file inside of it.
  return found?.replace(/app\.asar(?=[\\/])/, 'app.asar.unpacked') ?? null;
}

/** Models that come with Snug, small and trained on real data. */
export function bundledSamples(): BundledSample[] {
  const folder = samplesFolder();
  if (!folder) return [];
  const modelPath = path.join(folder, 'digits-mlp.onnx');
  return [
    {
      id: 'digits-mlp',
      name: 'digits-mlp.onnx',
      modelPath,
      dataPath: path.join(folder, 'digits-calibration.npy'),
      fileBytes: statSync(modelPath).size,
    },
  ];
}
