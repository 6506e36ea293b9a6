import { useEffect, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { colourOf, useSeenTheme } from "@/hooks/theme";
import type { TimeSeriesProps } from "./TimeSeries";

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

/** A time on the axis: the day at midnight and where ticks are days apart, else the time of day. */
function formatTick(seconds: number, step: number): string {
  const time = new Date(seconds * 1000);
  return step >= 86_400 || (time.getHours() === 0 && time.getMinutes() === 0) ? day.format(time) : clock.format(time);
}

/** The chart of TimeSeries, on a canvas; it draws anew when the theme, the size or the numbers change. */
export default function TimeSeriesChart({ label, times, series, format, stacked, height, onSelect }: TimeSeriesProps & { height: number }) {
  const place = useRef<HTMLDivElement>(null);
  const select = useRef(onSelect);
  const theme = useSeenTheme();
  useEffect(() => {
    select.current = onSelect;
  });
  useEffect(() => {
    const sums = new Array<number>(times.length).fill(0);
    const drawn = series.map((s) => (stacked ? s.values.map((v, i) => (sums[i]! += v ?? 0)) : [...s.values]));
    const axis: uPlot.Axis = {
      stroke: colourOf("grey-10"),
      font: "11px 'Inter Variable', sans-serif",
      grid: { stroke: colourOf("grey-4"), width: 1 },
      ticks: { show: false },
    };
    const colours = series.map((s) => colourOf(s.colour === "neutral" ? "grey-9" : s.colour));
    const chart = new uPlot(
      {
        width: place.current!.clientWidth,
        height,
        legend: { show: false },
        cursor: { points: { size: 6 }, drag: { x: select.current !== undefined, y: false, setScale: false } },
        scales: { y: { range: (_, __, most) => [0, most > 0 ? most * 1.08 : 1] } },
        axes: [{ ...axis, size: 28, space: 72, values: (_, ticks, __, ___, step) => ticks.map((tick) => formatTick(tick, step)) }, { ...axis, size: 48, values: (_, ticks) => ticks.map((tick) => format(tick).replace(/\.0+(?!\d)/, "")) }],
        series: [
          {},
          ...series.map((s, i) => ({
            label: s.label,
            stroke: colours[i],
            width: 1.5,
            fill: colours[i]!.replace(/^rgb\((.*)\)$/, stacked ? "rgba($1, 0.22)" : "rgba($1, 0.08)"),
            points: { show: false },
          })),
        ],
        // In a pile each area ends at the line below it.
        bands: stacked ? series.slice(1).map((_, i) => ({ series: [i + 2, i + 1] })) : [],
        hooks: {
          setSelect: [
            (u) => {
              if (u.select.width > 4) select.current?.(u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x"));
            },
          ],
        },
      },
      [[...times], ...drawn] as uPlot.AlignedData,
      place.current!,
    );
    const observer = new ResizeObserver(([entry]) => chart.setSize({ width: entry!.contentRect.width, height }));
    observer.observe(place.current!);
    return () => {
      observer.disconnect();
      chart.destroy();
    };
  }, [times, series, format, stacked, height, theme]);
  return <div ref={place} role="img" aria-label={label} style={{ height }} />;
}
