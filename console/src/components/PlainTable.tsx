import type { ReactNode } from "react";
import { classes } from "./class";

export interface PlainColumn<T> {
  id: string;
  header: string;
  cell: (row: T) => ReactNode;
  align?: "end";
  /** Left out on screens that are narrower. */
  from?: "sm" | "md" | "lg" | "xl";
}

// Tailwind finds only whole names.
const hidden = { sm: "max-sm:hidden", md: "max-md:hidden", lg: "max-lg:hidden", xl: "max-xl:hidden" };

/** A short table that is as high as its rows; long lists take Table. */
export function PlainTable<T>({ label, columns, rows, rowKey }: {
  label: string;
  columns: readonly PlainColumn<T>[];
  rows: readonly T[];
  rowKey: (row: T) => string;
}) {
  return (
    <div className="relative overflow-x-auto" tabIndex={0} role="group" aria-label={label}>
      <table className="w-full text-left" aria-label={label}>
        <thead>
          <tr className="h-8 text-xs text-quiet">
            {columns.map((c) => (
              <th key={c.id} scope="col" className={classes("px-3 font-normal whitespace-nowrap", c.align === "end" && "text-right", c.from && hidden[c.from])}>
                {c.header || <span className="sr-only">Actions</span>}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={rowKey(row)} className="border-t border-line hover:bg-hover">
              {columns.map((c) => (
                <td key={c.id} className={classes("h-10 px-3 py-1", c.align === "end" && "text-right tabular", c.from && hidden[c.from])}>
                  {c.cell(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
