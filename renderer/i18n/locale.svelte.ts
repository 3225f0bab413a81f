import { en } from './en.js';
import type { Messages } from './messages.js';
import { zhCN } from './zh-CN.js';

export type { Messages } from './messages.js';

export const locales = ['en', 'zh-CN'] as const;
export type Locale = (typeof locales)[number];

const catalogue: Record<Locale, Messages> = { en, 'zh-CN': zhCN };
const storageKey = 'snug.locale';

function isLocale(value: string | null): value is Locale {
  return value !== null && locales.some((locale) => locale === value);
}

function initial(): Locale {
  const stored = localStorage.getItem(storageKey);
  if (isLocale(stored)) return stored;
  return match(navigator.languages) ?? 'en';
}

/** First of the user's languages that Snug speaks. */
export function match(languages: readonly string[]): Locale | null {
  for (const tag of languages) {
    const language = tag.toLowerCase().split('-')[0];
    if (language === 'zh') return 'zh-CN';
    if (language === 'en') return 'en';
  }
  return null;
}

class I18n {
  locale: Locale = $state(initial());
  readonly t: Messages = $derived(catalogue[this.locale]);

  /** The user's own choice, kept for the next start. */
  choose(locale: Locale): void {
    this.locale = locale;
    localStorage.setItem(storageKey, locale);
  }

  /** What the door knows about the system, used only while the user has not chosen. */
  suggest(languages: readonly string[]): void {
    if (localStorage.getItem(storageKey) === null) this.locale = match(languages) ?? this.locale;
  }
}

export const i18n = new I18n();
