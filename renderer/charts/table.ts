/** What stands in the last cell of a row that can be chosen: that it is, or the button that does it. */
export type Choice = { chosen: string } | { label: string; choose: () => void };

/** The table behind a chart: the first cell names its row. */
export interface ChartTable {
  columns: readonly string[];
  rows: readonly { cells: readonly string[]; choice?: Choice }[];
  /** The column, from 0 on, that holds words in place of figures. */
  words?: number;
}
