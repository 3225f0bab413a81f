import type { SnugApi } from '../../src/contract/api.js';
import { createHttpBridge } from './http.js';

declare global {
  interface Window {
    /** Put there by the desktop app's preload; absent in a plain browser. */
    readonly snug?: SnugApi;
  }
}

/** The one way to the engine: the desktop bridge where it exists, else the browser door over HTTP. */
export function connect(): SnugApi {
  return window.snug ?? createHttpBridge(window.location.origin);
}
