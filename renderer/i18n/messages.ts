import type { en } from './en.js';

/** Every word on screen. English is the shape; another locale that lacks a key does not compile. */
export type Messages = typeof en;
