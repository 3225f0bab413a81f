export const themes = ['auto', 'light', 'dark'] as const;
export type Theme = (typeof themes)[number];

const storageKey = 'snug.theme';

function initial(): Theme {
  const stored = localStorage.getItem(storageKey);
  return themes.find((theme) => theme === stored) ?? 'auto';
}

/** Theme, contrast and motion as the page must draw them now; charts redraw when `revision` moves. */
class Appearance {
  theme: Theme = $state(initial());
  /** Counts every change of what the tokens resolve to. */
  revision = $state(0);
  reducedMotion = $state(matchMedia('(prefers-reduced-motion: reduce)').matches);

  constructor() {
    this.#apply();
    for (const query of ['(prefers-color-scheme: dark)', '(forced-colors: active)', '(prefers-contrast: more)']) {
      matchMedia(query).addEventListener('change', () => (this.revision += 1));
    }
    matchMedia('(prefers-reduced-motion: reduce)').addEventListener('change', (event) => {
      this.reducedMotion = event.matches;
    });
  }

  choose(theme: Theme): void {
    this.theme = theme;
    localStorage.setItem(storageKey, theme);
    this.#apply();
  }

  #apply(): void {
    if (this.theme === 'auto') delete document.documentElement.dataset['theme'];
    else document.documentElement.dataset['theme'] = this.theme;
    this.revision += 1;
  }
}

export const appearance = new Appearance();
