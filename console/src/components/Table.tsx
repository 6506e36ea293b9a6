import { columnVisibilityFeature, createSortedRowModel, rowSortingFeature, tableFeatures, useTable, type SortingState } from "@tanstack/react-table";
import { useVirtualizer } from "@tanstack/react-virtual";
import { ArrowDown, ArrowUp } from "lucide-react";
import { useEffect, useMemo, useRef, useState, type KeyboardEvent, type ReactNode } from "react";
import { Link } from "wouter";
import type { KeysetPages } from "@/hooks/keyset";
import { formatCount } from "@/lib/format";
import { classes } from "./class";
import { Skeleton } from "./EmptyState";
import { ProblemNotice } from "./ProblemNotice";

export interface Column<T> {
  id: string;
  header: string;
  cell: (row: T) => ReactNode;
  /** A CSS grid track, such as `120px` or `minmax(160px, 2fr)`. */
  width: string;
  align?: "end";
  /** Shown where the table is at least so many pixels wide; always without it. */
  from?: number;
  /** By what its header sorts. Only a list that is loaded to its end can be sorted here. */
  sort?: (row: T) => string | number;
}

export interface TableProps<T> {
  /** What the rows are, such as "Devices". */
  label: string;
  columns: readonly Column<T>[];
  pages: Pick<KeysetPages<T>, "rows" | "loading" | "stale" | "problem" | "hasMore" | "loadMore" | "retry">;
  rowKey: (row: T) => string;
  /** Where a row leads: the first column becomes a link that covers the row. */
  rowHref?: (row: T) => string;
  /** The row whose drawer is open. */
  open?: string;
  empty: ReactNode;
  density?: "normal" | "compact";
  /** Told whether the reader is at the top, where new rows may come in. */
  onTop?: (atTop: boolean) => void;
}

const features = tableFeatures({ rowSortingFeature, columnVisibilityFeature, sortedRowModel: createSortedRowModel() });
const rowHeights = { normal: 36, compact: 28 };
const collator = new Intl.Collator("en", { numeric: true });

/** Rows that are all there: for lists that come in one answer. */
export function allRows<T>(rows: readonly T[], loading = false): TableProps<T>["pages"] {
  return { rows, loading, stale: false, problem: undefined, hasMore: false, loadMore: () => {}, retry: () => {} };
}

/** A virtual table that fills its place: further pages load as one scrolls; arrow keys walk the rows. */
export function Table<T extends object>({ label, columns, pages, rowKey, rowHref, open, empty, density = "normal", onTop }: TableProps<T>) {
  const scroller = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  const [sorting, setSorting] = useState<SortingState>([]);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(entry!.contentRect.width));
    observer.observe(scroller.current!);
    return () => observer.disconnect();
  }, []);

  const definitions = useMemo(
    () =>
      columns.map((column) => ({
        id: column.id,
        accessorFn: (row: T) => column.sort?.(row) ?? "",
        sortFn: (a: { original: T }, b: { original: T }) => compare(column.sort!(a.original), column.sort!(b.original)),
        enableSorting: column.sort !== undefined && !pages.hasMore,
      })),
    [columns, pages.hasMore],
  );
  const columnVisibility = useMemo(
    () => Object.fromEntries(columns.map((column) => [column.id, width === 0 || width >= (column.from ?? 0)])),
    [columns, width],
  );
  const table = useTable({
    features,
    columns: definitions,
    data: pages.rows as T[],
    state: { sorting: pages.hasMore ? [] : sorting, columnVisibility },
    onSortingChange: setSorting,
  });
  const rows = table.getRowModel().rows;
  const shown = columns.filter((column) => columnVisibility[column.id]);
  const height = rowHeights[density];

  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => height,
    overscan: 24,
    getItemKey: (index) => rowKey(rows[index]!.original),
  });
  const visible = virtual.getVirtualItems();
  const last = visible.at(-1)?.index ?? 0;
  const { hasMore, loadMore } = pages;
  useEffect(() => {
    if (hasMore && last >= rows.length - 60) loadMore();
  }, [hasMore, loadMore, last, rows.length]);

  const openIndex = open ? rows.findIndex((row) => rowKey(row.original) === open) : -1;
  useEffect(() => {
    if (openIndex >= 0) virtual.scrollToIndex(openIndex);
  }, [openIndex, virtual]);

  const walk = (event: KeyboardEvent) => {
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 12, PageUp: -12, Home: -rows.length, End: rows.length }[event.key];
    const from = (event.target as HTMLElement).closest("[data-index]")?.getAttribute("data-index");
    if (!by || from == null || event.metaKey || event.ctrlKey) return;
    event.preventDefault();
    const to = Math.min(Math.max(Number(from) + by, 0), rows.length - 1);
    virtual.scrollToIndex(to);
    requestAnimationFrame(() => scroller.current?.querySelector<HTMLElement>(`[data-index="${to}"] a`)?.focus());
  };

  const tracks = { gridTemplateColumns: shown.map((column) => column.width).join(" ") };
  if (pages.problem && rows.length === 0) return <ProblemNotice problem={pages.problem} onRetry={pages.retry} />;
  return (
    <div className="flex min-h-0 flex-1 flex-col overflow-hidden rounded-t border border-b-0 border-line bg-surface">
      <div
        ref={scroller}
        role="table"
        aria-label={label}
        aria-rowcount={hasMore ? -1 : rows.length + 1}
        aria-busy={pages.loading || pages.stale}
        className="min-h-0 flex-1 overflow-x-hidden overflow-y-auto"
        onKeyDown={walk}
        onScroll={onTop && ((event) => onTop(event.currentTarget.scrollTop < height))}
      >
        <div role="rowgroup" className="sticky top-0 z-20 border-b border-line bg-surface">
          <div role="row" aria-rowindex={1} className="grid h-8 items-center gap-3 px-3 text-xs text-quiet" style={tracks}>
            {shown.map((column) => {
              const sortable = table.getColumn(column.id)?.getCanSort();
              const sorted = table.getColumn(column.id)?.getIsSorted();
              return (
                <div
                  key={column.id}
                  role="columnheader"
                  aria-sort={sorted ? (sorted === "asc" ? "ascending" : "descending") : undefined}
                  className={classes("min-w-0 truncate", column.align === "end" && "text-right")}
                >
                  {sortable ? (
                    <button type="button" className="inline-flex items-center gap-1 hover:text-text" onClick={() => table.getColumn(column.id)?.toggleSorting()}>
                      {column.header}
                      {sorted && (sorted === "asc" ? <ArrowUp size={12} aria-hidden /> : <ArrowDown size={12} aria-hidden />)}
                    </button>
                  ) : (
                    column.header
                  )}
                </div>
              );
            })}
          </div>
        </div>
        <div role="rowgroup" className={classes("relative", pages.stale && "opacity-60")} style={{ height: virtual.getTotalSize() }}>
          {visible.map((item) => {
            const row = rows[item.index]!.original;
            const key = rowKey(row);
            return (
              <div
                key={item.key}
                role="row"
                aria-rowindex={item.index + 2}
                aria-selected={open === undefined ? undefined : key === open}
                data-index={item.index}
                className={classes(
                  "absolute inset-x-0 top-0 grid items-center gap-3 border-b border-line px-3",
                  rowHref && "hover:bg-hover has-[a[data-row]:focus-visible]:bg-hover",
                  key === open && "bg-accent-tint hover:bg-accent-tint",
                )}
                style={{ ...tracks, height, transform: `translateY(${item.start}px)` }}
              >
                {shown.map((column, i) => (
                  <div key={column.id} role="cell" className={classes("min-w-0 truncate", column.align === "end" && "text-right tabular")}>
                    {i === 0 && rowHref ? (
                      <Link href={rowHref(row)} data-row className="after:absolute after:inset-0 focus-visible:outline-none focus-visible:after:outline-2 focus-visible:after:-outline-offset-2 focus-visible:after:outline-accent">
                        {column.cell(row)}
                      </Link>
                    ) : (
                      column.cell(row)
                    )}
                  </div>
                ))}
              </div>
            );
          })}
        </div>
        {pages.loading && <LoadingRows height={height} />}
        {!pages.loading && rows.length === 0 && empty}
      </div>
      <footer className="flex h-8 items-center border-t border-line px-3 text-xs text-quiet tabular" aria-live="off">
        {!pages.loading && `${formatCount(rows.length)}${hasMore ? " loaded, more below" : " in all"}`}
        {pages.problem && rows.length > 0 && <span className="ml-2 text-bad">{pages.problem.problem.title}</span>}
      </footer>
    </div>
  );
}

function LoadingRows({ height }: { height: number }) {
  return Array.from({ length: 12 }, (_, i) => (
    <div key={i} className="flex items-center border-b border-line px-3" style={{ height }}>
      <Skeleton className="h-3 w-2/3" />
    </div>
  ));
}

function compare(a: string | number, b: string | number): number {
  return typeof a === "number" && typeof b === "number" ? a - b : collator.compare(String(a), String(b));
}
