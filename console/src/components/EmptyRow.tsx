import type { ReactNode } from "react";

/** What stands in a table without rows: as a row of one cell, because a table has nothing but rows. */
export const EmptyRow = ({ children }: { children: ReactNode }) => (
  <div role="rowgroup">
    <div role="row">
      <div role="cell">{children}</div>
    </div>
  </div>
);
