import type { Locale } from './locale.svelte.js';

/** Each language in its own words: the one text that is never translated. */
export const localeNames: Record<Locale, string> = { en: 'English', 'zh-CN': '简体中文' };
