// What somebody else changed meanwhile (412): how it was when one looked, how it is now, and what one was about to make of it.
export interface Difference {
  field: string;
  seen: string;
  now: string;
  mine: string;
}

type Fields = Record<string, unknown>;

function show(value: unknown): string {
  if (Array.isArray(value)) return [...value].sort().join(", ");
  return value === undefined || value === null ? "" : String(value);
}

/** The fields that differ, of those named, with their labels. `mine` holds only what one changes; the rest stays as it is now. */
export function differences(labels: Record<string, string>, seen: Fields, now: Fields, mine: Fields): Difference[] {
  return Object.entries(labels).flatMap(([name, field]) => {
    const row = { field, seen: show(seen[name]), now: show(now[name]), mine: show(name in mine ? mine[name] : now[name]) };
    return row.seen === row.now && row.now === row.mine ? [] : [row];
  });
}
