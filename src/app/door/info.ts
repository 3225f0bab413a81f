import { dependencies, version } from '../../../package.json';
import type { DoorInfo } from '../../contract/api.js';

/** What a door says about itself. The runtime's version is pinned exactly, so the manifest is the truth. */
export function doorInfo(door: DoorInfo['door'], languages: string[]): DoorInfo {
  return {
    door,
    version,
    languages,
    nativeDialog: door === 'desktop',
    onnxruntime: dependencies['onnxruntime-node'],
  };
}
