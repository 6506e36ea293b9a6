import { FilePen } from "lucide-react";
import { Link, useLocation } from "wouter";
import type { SchemaUndocumentedRoute } from "@/api/schema.gen";
import { Badge, ProtocolBadge, protocols } from "@/components/Badge";
import { CommandButton } from "@/components/Button";
import { EmptyRow } from "@/components/EmptyRow";
import { EmptyState } from "@/components/EmptyState";
import { FilterBar } from "@/components/FilterBar";
import { Page } from "@/components/Page";
import { Table, type Column } from "@/components/Table";
import { RelativeTime } from "@/components/values";
import { useCommands, type Command } from "@/hooks/commands";
import { useFilter, useHref } from "@/hooks/url";
import type { FilterField } from "@/lib/filter";
import { formatCount, formatShortCount } from "@/lib/format";
import { draftFilter, routeFilter, useUndocumented } from "./api";
import { ViewLinks } from "./ViewLinks";

const fields: readonly FilterField[] = [
  { key: "protocol", help: "how it came", values: protocols },
  { key: "api", help: "the pass-through API that let it through; -api:* for what was refused" },
  { key: "method", help: "such as POST or PUBLISH" },
  { key: "since", help: "seen since, such as 24h" },
];

type Row = SchemaUndocumentedRoute;

const columns: readonly Column<Row>[] = [
  { id: "route", header: "Route or topic", width: "minmax(150px, 2fr)", cell: (r) => <span title={r.route}><span className="text-quiet">{r.method}</span> <code>{r.route}</code></span> },
  { id: "protocol", header: "Protocol", width: "88px", from: 520, cell: (r) => <ProtocolBadge protocol={r.protocol} /> },
  { id: "api", header: "What became of it", width: "minmax(130px, 1fr)", from: 640, cell: (r) => <Fate row={r} /> },
  { id: "exchanges", header: "Exchanges", width: "84px", align: "end", cell: (r) => <span title={formatCount(r.exchanges)}>{formatShortCount(r.exchanges)}</span> },
  { id: "last", header: "Last caller", width: "minmax(110px, 1fr)", from: 900, cell: (r) => <LastCaller row={r} /> },
  { id: "seen", header: "Last seen", width: "96px", from: 420, cell: (r) => <RelativeTime time={r.lastSeen} /> },
  { id: "first", header: "First seen", width: "96px", from: 1020, cell: (r) => <RelativeTime time={r.firstSeen} /> },
  { id: "draft", header: "Contract", width: "64px", from: 340, cell: (r) => <DraftLink row={r} /> },
];

function Fate({ row }: { row: Row }) {
  const href = useHref();
  if (!row.api) return <Badge tone="neutral">refused</Badge>;
  return (
    <span>
      let through by <Link href={href(`/apis/${encodeURIComponent(row.api)}`)} className="relative z-10 hover:underline">{row.api}</Link>
    </span>
  );
}

function LastCaller({ row }: { row: Row }) {
  const href = useHref();
  if (!row.lastPrincipal) return <span className="text-quiet">unknown</span>;
  return <Link href={href("/traffic", { filter: `principal:${row.lastPrincipal}` })} className="relative z-10 font-mono text-xs hover:underline">{row.lastPrincipal}</Link>;
}

function DraftLink({ row }: { row: Row }) {
  const href = useHref();
  return <Link href={href("/apis/draft", { filter: draftFilter(row) })} aria-label={`Draft a contract for ${row.route}`} className="link relative z-10">Draft</Link>;
}

/** Routes and topics that no contract explains: shadow APIs. */
export function UndocumentedView() {
  const { text, setText } = useFilter();
  const routes = useUndocumented(text);
  const href = useHref();
  const [, navigate] = useLocation();
  const draft: Command = {
    id: "draft", group: "Do", label: "Draft a contract", icon: FilePen, keys: "d",
    refused: routes.rows.length === 0 ? "There is nothing to draft a contract from." : undefined,
    run: () => navigate(href("/apis/draft", { filter: text })),
  };
  useCommands([draft]);
  const refused = routes.rows.filter((r) => !r.api).length;
  return (
    <Page
      title="Traffic"
      fill
      sentence={
        routes.loading ? undefined : routes.rows.length === 0 ? "A contract explains all traffic." : (
          <>
            {formatCount(routes.rows.length)}{routes.hasMore && "+"} {routes.rows.length === 1 ? "route" : "routes"} without a contract:{" "}
            <Link href={href("/traffic", { view: "undocumented", filter: "-api:*" })} className="link">{formatCount(refused)} refused</Link>,{" "}
            <Link href={href("/traffic", { view: "undocumented", filter: "api:*" })} className="link">{formatCount(routes.rows.length - refused)} let through unchecked</Link>.
          </>
        )
      }
      actions={<CommandButton command={draft} kind="primary" />}
    >
      <ViewLinks view="undocumented" />
      <FilterBar fields={fields} text={text} onChange={setText} placeholder="Filter: protocol:mqtt, or a part of the route" />
      <Table
        label="Undocumented routes"
        columns={columns}
        pages={routes}
        rowKey={(r) => `${r.protocol} ${r.method} ${r.route} ${r.api ?? ""}`}
        rowHref={(r) => href("/traffic", { filter: routeFilter(r) })}
        empty={
          <EmptyRow><EmptyState title={text ? "No route fits." : "A contract explains everything that was seen."}>
            <p className="text-soft">Routes and topics that are called, and that no contract has, show here with who calls them, so that nothing stays in the shadow.</p>
          </EmptyState></EmptyRow>
        }
      />
    </Page>
  );
}
