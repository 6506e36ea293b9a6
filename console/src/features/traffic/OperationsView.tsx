import { Link } from "wouter";
import { useMemo } from "react";
import { asProblem } from "@/api/problem";
import type { SchemaOperationTraffic } from "@/api/schema.gen";
import { EmptyRow } from "@/components/EmptyRow";
import { EmptyState } from "@/components/EmptyState";
import { allRows, Table, type Column } from "@/components/Table";
import { ProblemNotice } from "@/components/ProblemNotice";
import { Duration } from "@/components/values";
import { useHref, useRange } from "@/hooks/url";
import { formatCount, formatShare, formatShortCount } from "@/lib/format";
import { findingWords } from "@/lib/words";
import type { SchemaFindingName } from "@/api/schema.gen";
import { filterOf, useOperations } from "./api";

type Row = SchemaOperationTraffic;

const filter = (o: Row, more: Record<string, string> = {}) =>
  o.api ? filterOf({ api: o.api, version: o.version, operation: o.operation, ...more }) : `finding:undocumented,unmatched ${filterOf(more)}`.trim();

const columns: readonly Column<Row>[] = [
  {
    id: "operation", header: "Operation", width: "minmax(140px, 1.6fr)", sort: (o) => `${o.api} ${o.operation}`,
    cell: (o) => o.operation || <span className="text-soft">{o.api ? "any route" : "no contract"}</span>,
  },
  { id: "api", header: "API", width: "minmax(110px, 1fr)", from: 560, sort: (o) => `${o.api} ${o.version}`, cell: (o) => <Api row={o} /> },
  { id: "exchanges", header: "Exchanges", width: "88px", align: "end", sort: (o) => o.exchanges, cell: (o) => <span title={formatCount(o.exchanges)}>{formatShortCount(o.exchanges)}</span> },
  { id: "refused", header: "Refused", width: "108px", align: "end", from: 420, sort: (o) => o.refused, cell: (o) => <Part row={o} count={o.refused} status="denied" /> },
  { id: "failed", header: "Failed", width: "100px", align: "end", from: 640, sort: (o) => o.failed, cell: (o) => <Part row={o} count={o.failed} status="failed" /> },
  { id: "devices", header: "Callers", width: "72px", align: "end", from: 700, sort: (o) => o.devices, cell: (o) => formatShortCount(o.devices) },
  { id: "p50", header: "p50", width: "76px", align: "end", from: 820, sort: (o) => o.p50Micros, cell: (o) => <Duration micros={o.p50Micros} /> },
  { id: "p99", header: "p99", width: "76px", align: "end", from: 340, sort: (o) => o.p99Micros, cell: (o) => <Duration micros={o.p99Micros} /> },
  { id: "findings", header: "Found most", width: "minmax(220px, 1.8fr)", from: 1040, cell: (o) => <MostFound row={o} /> },
];

function Api({ row }: { row: Row }) {
  const href = useHref();
  if (!row.api) return <span className="text-quiet">none</span>;
  return <Link href={href(`/apis/${encodeURIComponent(row.api)}`)} className="relative z-10 text-soft hover:underline">{row.api} {row.version}</Link>;
}

function Part({ row, count, status }: { row: Row; count: number; status: string }) {
  const href = useHref();
  if (count === 0) return <span className="text-quiet">0</span>;
  return (
    <Link href={href("/traffic", { filter: filter(row, { status }) })} className="relative z-10 hover:underline" title={formatCount(count)}>
      {formatShortCount(count)} <span className="text-quiet">{formatShare(count, row.exchanges)}</span>
    </Link>
  );
}

function MostFound({ row }: { row: Row }) {
  const href = useHref();
  const [most] = row.findings ?? [];
  if (!most) return <span className="text-quiet">–</span>;
  return (
    <Link href={href("/traffic", { filter: filter(row, { finding: most.name }) })} className="relative z-10 text-soft hover:underline" title={most.example}>
      {findingWords(most.name as SchemaFindingName).title} <span className="tabular">({formatShortCount(most.count)})</span>
    </Link>
  );
}

/** Each operation over the page's range. */
export function OperationsView() {
  const { minutes, label, live } = useRange();
  const { data, error, refetch } = useOperations(minutes, live);
  const href = useHref();
  const pages = useMemo(() => allRows(data?.operations ?? [], !data && !error), [data, error]);
  if (error && !data) return <ProblemNotice problem={asProblem(error)} onRetry={() => void refetch()} />;
  return (
    <>
      <p className="text-soft">The last {label}. Callers are an estimate within about 1 %; half of the exchanges took no longer than p50, 99 of 100 no longer than p99.</p>
      <Table
        label={`Operations, last ${label}`}
        columns={columns}
        pages={pages}
        rowKey={(o) => `${o.api} ${o.version} ${o.operation}`}
        rowHref={(o) => href("/traffic", { filter: filter(o) })}
        empty={<EmptyRow><EmptyState title={`No operation was called in the last ${label}.`} /></EmptyRow>}
      />
    </>
  );
}
