import { lazy, Suspense, useEffect, useRef, useState, type RefObject } from "react";
import { formatExact } from "@/lib/format";
import { Button } from "./Button";
import { Skeleton } from "./EmptyState";
import type { SeriesColour } from "./Sparkline";

const Chart = lazy(() => import("./TimeSeriesChart"));

export interface TimeSeriesProps {
  label: string;
  /** Seconds since 1970, ascending. */
  times: readonly number[];
  series: readonly { label: string; colour: SeriesColour; values: readonly (number | null)[] }[];
  format: (value: number) => string;
  /** Series stand on each other. */
  stacked?: boolean;
  height?: number;
  /** The reader drew a window, in seconds since 1970. */
  onSelect?: (from: number, to: number) => void;
}

/** A chart over time, and the same numbers as a table for who does not see it. The chart's code loads when one is shown. */
export function TimeSeries(props: TimeSeriesProps) {
  const [asTable, setAsTable] = useState(false);
  const figure = useRef<HTMLElement>(null);
  const inView = useHasBeenInView(figure);
  const { label, times, series, format, height = 180 } = props;
  return (
    <figure ref={figure} aria-label={label} className="flex flex-col gap-1">
      <div className="flex flex-wrap items-center gap-x-4 gap-y-1 text-xs">
        {series.map((s) => (
          <span key={s.label} className="inline-flex items-center gap-1.5 text-soft">
            <svg viewBox="0 0 8 8" className="size-2" aria-hidden><rect width="8" height="8" rx="2" fill={`var(--${s.colour === "neutral" ? "grey-9" : s.colour})`} /></svg>
            {s.label}
          </span>
        ))}
        <Button kind="quiet" className="ml-auto h-6! text-xs!" onClick={() => setAsTable(!asTable)}>
          {asTable ? "Show as chart" : "Show as table"}
        </Button>
      </div>
      {asTable ? (
        <div tabIndex={0} role="group" aria-label={`${label}, as a table`} className="overflow-auto" style={{ height }}>
          <table className="w-full text-xs tabular">
            <thead>
              <tr className="text-left text-quiet">
                <th className="font-medium">Time</th>
                {series.map((s) => <th key={s.label} className="text-right font-medium">{s.label}</th>)}
              </tr>
            </thead>
            <tbody>
              {times.map((time, i) => (
                <tr key={time} className="border-t border-line">
                  <td>{formatExact(new Date(time * 1000)).replace(/ \(.*/, "")}</td>
                  {series.map((s) => <td key={s.label} className="text-right">{s.values[i] == null ? "" : format(s.values[i])}</td>)}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      ) : (
        <Suspense fallback={<div style={{ height }}><Skeleton className="size-full" /></div>}>
          {inView ? <Chart {...props} height={height} /> : <div style={{ height }} />}
        </Suspense>
      )}
    </figure>
  );
}

/** The chart's code is not for who does not scroll down to it. */
function useHasBeenInView(element: RefObject<HTMLElement | null>): boolean {
  const [seen, setSeen] = useState(false);
  useEffect(() => {
    if (seen || !element.current) return;
    const observer = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && setSeen(true));
    observer.observe(element.current);
    return () => observer.disconnect();
  }, [seen, element]);
  return seen;
}
