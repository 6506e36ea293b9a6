import { useMemo } from "react";
import type { SchemaTrafficSeries } from "@/api/schema.gen";
import { protocolNames } from "@/components/Badge";
import { Skeleton } from "@/components/EmptyState";
import { Section } from "@/components/Page";
import { TimeSeries } from "@/components/TimeSeries";
import { useRange } from "@/hooks/url";
import { formatRate } from "@/lib/format";
import { useSeries } from "./api";

/** Exchanges over the page's range, by protocol. */
export function TrafficChart() {
  const { minutes, live } = useRange();
  const { data, dataUpdatedAt } = useSeries(minutes, live);
  const chart = useMemo(() => data && rates(data, dataUpdatedAt), [data, dataUpdatedAt]);
  const span = chart && spanName(chart.seconds);
  return (
    <Section title={span ? `Exchanges a second, last ${span}` : "Exchanges a second"}>
      {chart ? (
        <TimeSeries label={`Exchanges a second by protocol, last ${span}`} times={chart.times} series={chart.series} format={formatRate} stacked />
      ) : (
        <div className="h-[208px]">
          <Skeleton className="size-full" />
        </div>
      )}
    </Section>
  );
}

/** Counts as rates; the last point is not over, so its count is that of the time until now. */
function rates(data: SchemaTrafficSeries, now: number) {
  const from = Date.parse(data.from) / 1000;
  const length = data.protocols[0]?.passed.length ?? 0;
  const times = Array.from({ length }, (_, i) => from + i * data.spanSeconds);
  const spans = times.map((time) => Math.min(Math.max(now / 1000 - time, 5), data.spanSeconds));
  const series = data.protocols.map((p) => ({
    label: protocolNames[p.protocol],
    colour: p.protocol,
    values: spans.map((span, i) => (p.passed[i]! + p.refused[i]! + p.failed[i]!) / span),
  }));
  return { times, series, seconds: length * data.spanSeconds };
}

function spanName(seconds: number): string {
  if (seconds <= 3700) return `${Math.round(seconds / 60)} minutes`;
  if (seconds <= 49 * 3600) return `${Math.round(seconds / 3600)} hours`;
  return `${Math.round(seconds / 86_400)} days`;
}
