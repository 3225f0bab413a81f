const byteSteps = [
  { from: 1e9, size: 1e9, unit: 'GB' },
  { from: 1e6, size: 1e6, unit: 'MB' },
  { from: 0, size: 1e3, unit: 'kB' },
] as const;

type ByteStep = (typeof byteSteps)[number];

/** Numbers, sizes and times in one locale. Sizes are decimal (1 GB = 10^9 bytes), the unit always written. */
export interface Formats {
  /** Up to three significant digits: "6.43 GB", "4.0 GB", "347 MB", "11.7 MB". */
  bytes(bytes: number): string;
  /** Two sizes that differ never print the same: digits are added until they do not. */
  bytesPair(a: number, b: number): [string, string];
  /** The same with its zeros kept, so that the digits of a column stand under each other. */
  bytesExact(bytes: number): string;
  count(value: number): string;
  /** 86 M, 1.8 M, 171 k. */
  compact(value: number): string;
  /** `share` 0…1. */
  percent(share: number, digits?: number): string;
  /** A share that is there but rounds to nothing says so: "<1%". */
  share(share: number): string;
  decimal(value: number, digits?: number): string;
  /** Three significant digits below 100, whole above: samples per second. */
  rate(value: number): string;
  /** Four significant digits, whatever the size; a dash for no number. */
  loss(value: number): string;
  ms(value: number): string;
  /** 20.25 s. */
  seconds(ms: number, digits?: number): string;
  /** 0:07, 12:31, 1:02:09. */
  clock(ms: number): string;
  /** Near days in words ("yesterday"), others as a date. */
  date(epochMs: number): string;
  /** Always a date: "Nov 3, 2026". */
  day(epochMs: number): string;
}

function stepFor(bytes: number): ByteStep {
  // 999.6 MB would print as "1,000 MB": take the larger unit from there on.
  return byteSteps.find((step) => Math.abs(bytes) >= step.from * 0.9995) ?? byteSteps[2];
}

/** Decimals that are always written, and those written when they are not zero. */
function digitsFor(value: number, step: ByteStep): { least: number; most: number } {
  const most = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  const least = step.unit === 'kB' ? 0 : step.unit === 'GB' ? 1 : value < 9.995 ? 1 : 0;
  return { least: Math.min(least, most), most };
}

export function createFormats(locale: string): Formats {
  const cache = new Map<string, Intl.NumberFormat>();
  const number = (options: Intl.NumberFormatOptions): Intl.NumberFormat => {
    const key = JSON.stringify(options);
    const known = cache.get(key);
    if (known !== undefined) return known;
    const made = new Intl.NumberFormat(locale, options);
    cache.set(key, made);
    return made;
  };
  const fixed = (value: number, digits: number): string =>
    number({ minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
  const sized = (bytes: number, extra: number): string => {
    const step = stepFor(bytes);
    const value = bytes / step.size;
    const { least, most } = digitsFor(Math.abs(value), step);
    const text = number({ minimumFractionDigits: least, maximumFractionDigits: most + extra }).format(value);
    return `${text}\u00a0${step.unit}`;
  };

  const percent = (share: number, digits = 0): string =>
    number({ style: 'percent', minimumFractionDigits: digits, maximumFractionDigits: digits }).format(share);

  return {
    bytes: (bytes) => (bytes === 0 ? '0' : sized(bytes, 0)),
    bytesPair(a, b) {
      for (let extra = 0; extra < 3; extra += 1) {
        const pair: [string, string] = [sized(a, extra), sized(b, extra)];
        if (a === b || pair[0] !== pair[1]) return pair;
      }
      return [sized(a, 3), sized(b, 3)];
    },
    bytesExact(bytes) {
      const step = stepFor(bytes);
      const value = bytes / step.size;
      return `${fixed(value, digitsFor(Math.abs(value), step).most)}\u00a0${step.unit}`;
    },
    count: (value) => number({ maximumFractionDigits: 0 }).format(value),
    compact(value) {
      const [size, unit] = value >= 1e9 ? [1e9, 'B'] : value >= 1e6 ? [1e6, 'M'] : value >= 1e3 ? [1e3, 'k'] : [1, ''];
      const scaled = value / size;
      const text = fixed(scaled, size > 1 && scaled < 100 ? 1 : 0);
      return unit === '' ? text : `${text}\u00a0${unit}`;
    },
    percent,
    share(share) {
      if (share > 0 && share < 0.005) return `<${percent(0.01)}`;
      return share < 1 && share > 0.995 ? `>${percent(0.99)}` : percent(share);
    },
    decimal: fixedDecimal,
    rate: (value) => number(value < 100 ? { maximumSignificantDigits: 3 } : { maximumFractionDigits: 0 }).format(value),
    loss: (value) => (Number.isFinite(value) ? number({ maximumSignificantDigits: 4 }).format(value) : '–'),
    ms: (value) =>
      value >= 1000
        ? `${fixed(value / 1000, 2)}\u00a0s`
        : `${fixed(value, value < 10 ? 2 : value < 100 ? 1 : 0)}\u00a0ms`,
    seconds: (ms, digits = 2) => `${fixed(ms / 1000, digits)}\u00a0s`,
    clock(ms) {
      const seconds = Math.floor(ms / 1000);
      const two = (value: number): string => String(value).padStart(2, '0');
      const hours = Math.floor(seconds / 3600);
      const minutes = Math.floor(seconds / 60) % 60;
      return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
    },
    date(epochMs) {
      const days = Math.round((startOfDay(epochMs) - startOfDay(Date.now())) / 86_400_000);
      if (days > -7) return new Intl.RelativeTimeFormat(locale, { numeric: 'auto' }).format(days, 'day');
      return this.day(epochMs);
    },
    day: (epochMs) => new Intl.DateTimeFormat(locale, { dateStyle: 'medium' }).format(epochMs),
  };

  function fixedDecimal(value: number, digits = 1): string {
    return fixed(value, digits);
  }
}

function startOfDay(epochMs: number): number {
  return new Date(epochMs).setHours(0, 0, 0, 0);
}
