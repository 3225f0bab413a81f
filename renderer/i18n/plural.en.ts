const plural = new Intl.PluralRules('en');
const number = new Intl.NumberFormat('en');

/** "1 weight", "1,204 weights". */
export function items(n: number, one: string, many: string): string {
  return `${number.format(n)} ${plural.select(n) === 'one' ? one : many}`;
}
