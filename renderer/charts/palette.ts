const tokens = {
  ink: '--ink',
  ink2: '--ink-2',
  line: '--line',
  lineStrong: '--line-strong',
  surface: '--surface',
  accent: '--accent',
  bad: '--bad',
  badWash: '--bad-wash',
  good: '--good',
} as const;

export type Palette = Record<keyof typeof tokens, string> & { font: string };

/** The tokens' colours as they resolve now. A custom property keeps `light-dark()` as text, so a probe asks. */
export function readPalette(): Palette {
  const probe = document.createElement('span');
  probe.hidden = true;
  document.body.append(probe);
  const read = (name: string): string => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const entries = Object.entries(tokens).map(([key, name]) => [key, read(name)] as const);
  const palette = { ...Object.fromEntries(entries), font: getComputedStyle(document.documentElement).fontFamily };
  probe.remove();
  return palette as Palette;
}
