// The list of a live tail: new entries come in at its beginning or wait while one reads, older ones are loaded at its end.
export interface Entry {
  instance: string;
}

export interface TailList<T extends Entry> {
  /** Newest first. */
  rows: readonly T[];
  /** The cursor of what is older than the rows; undefined at the end. */
  next: string | undefined;
  /** The newest of those that came while one was reading. */
  held: readonly T[];
  /** How many those are. */
  heldCount: number;
  /** How many rows came in live, since the list was read. */
  live: number;
}

const mostHeld = 500;
const mostLive = 2000;
const enoughLive = 500;

export const emptyTail: TailList<never> = { rows: [], next: undefined, held: [], heldCount: 0, live: 0 };

/** The newest page, as it was read. */
export function opened<T extends Entry>(list: TailList<T>, page: { items: readonly T[]; next?: string }): TailList<T> {
  return { ...list, rows: page.items, next: page.next, held: [], heldCount: 0, live: 0 };
}

/** New entries, newest first: shown at once, or held while somebody reads. */
export function arrived<T extends Entry>(list: TailList<T>, entries: readonly T[], holding: boolean): TailList<T> {
  const fresh = unknown(list.rows, [...entries, ...list.held]);
  if (holding) return { ...list, held: fresh.slice(0, mostHeld), heldCount: list.heldCount + fresh.length - list.held.length };
  const rows = [...fresh, ...list.rows].slice(0, list.rows.length - list.live + mostLive);
  return { ...list, rows, held: [], heldCount: 0, live: list.live + fresh.length };
}

/** A page of older entries. */
export function continued<T extends Entry>(list: TailList<T>, page: { items: readonly T[]; next?: string }): TailList<T> {
  return { ...list, rows: [...list.rows, ...unknown(list.rows, page.items)], next: page.next };
}

/** Whether the list should be read anew, so that it stays short, or because more was held than is kept. */
export function isLong<T extends Entry>(list: TailList<T>): boolean {
  return list.live > enoughLive;
}

export function lostSome<T extends Entry>(list: TailList<T>): boolean {
  return list.heldCount > list.held.length;
}

/** Of the entries those that are not among the rows, each once. */
function unknown<T extends Entry>(rows: readonly T[], entries: readonly T[]): T[] {
  const seen = new Set(rows.map((row) => row.instance));
  return entries.filter((entry) => !seen.has(entry.instance) && seen.add(entry.instance));
}
