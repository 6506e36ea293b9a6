import { FilePlus2 } from "lucide-react";
import { Link } from "wouter";
import { asProblem } from "@/api/problem";
import type { SchemaUndocumentedRoute } from "@/api/schema.gen";
import { Badge, ProtocolBadge } from "@/components/Badge";
import { PlainTable, type PlainColumn } from "@/components/PlainTable";
import { Section } from "@/components/Page";
import { ProblemNotice } from "@/components/ProblemNotice";
import { RelativeTime } from "@/components/values";
import { useHref } from "@/hooks/url";
import { formatFilter } from "@/lib/filter";
import { formatCount, formatShortCount } from "@/lib/format";
import { useUndocumented } from "./api";

/** Traffic that no contract explains, as rows of its own: each is the beginning of a contract. */
export function Undocumented() {
  const { data, error, refetch } = useUndocumented();
  const href = useHref();
  if (error) return <ProblemNotice problem={asProblem(error)} onRetry={() => void refetch()} />;
  if (!data || data.items.length === 0) return null;
  return (
    <div id="undocumented" className="max-h-[max(44%,240px)] shrink-0 scroll-mt-4 overflow-y-auto">
      <Section
        flush
        title={<span className="inline-flex items-center gap-2">Explained by no contract <Badge tone="warning">undocumented</Badge></span>}
        actions={
          <Link href={href("/apis/draft", { filter: "since:24h" })} className="link inline-flex items-center gap-1.5 px-1">
            <FilePlus2 size={16} aria-hidden /> Draft a contract for all
          </Link>
        }
      >
        <PlainTable label="Undocumented traffic" columns={columns} rows={data.items} rowKey={(r) => `${r.protocol} ${r.method} ${r.route} ${r.api ?? ""}`} />
        {data.overflow > 0 && <p className="border-t border-line px-3 py-2 text-quiet">{formatCount(data.overflow)} exchanges on further routes were counted but not listed.</p>}
      </Section>
    </div>
  );
}

const columns: readonly PlainColumn<SchemaUndocumentedRoute>[] = [
  {
    id: "route", header: "Route or topic",
    cell: (r) => <span className="break-all"><span className="text-quiet">{r.method}</span> <code>{r.route}</code></span>,
  },
  { id: "protocol", header: "Protocol", cell: (r) => <ProtocolBadge protocol={r.protocol} />, from: "sm" },
  { id: "outcome", header: "What happens", from: "md", cell: (r) => (r.api ? <>passes unchecked by <ApiLink api={r.api} /></> : "is refused") },
  { id: "exchanges", header: "Exchanges", align: "end", cell: (r) => <TrafficLink route={r} /> },
  { id: "principal", header: "Last caller", from: "lg", cell: (r) => (r.lastPrincipal ? <span className="font-mono text-xs">{r.lastPrincipal}</span> : <span className="text-quiet">not known</span>) },
  { id: "seen", header: "Last seen", from: "sm", cell: (r) => <RelativeTime time={r.lastSeen} /> },
  { id: "draft", header: "", align: "end", cell: (r) => <DraftLink route={r} /> },
];

function ApiLink({ api }: { api: string }) {
  const href = useHref();
  return <Link href={href(`/apis/${encodeURIComponent(api)}`)} className="link">{api}</Link>;
}

function TrafficLink({ route }: { route: SchemaUndocumentedRoute }) {
  const href = useHref();
  const filter = formatFilter([
    { key: "protocol", value: route.protocol, negated: false },
    { key: "finding", value: route.api ? "undocumented" : "unmatched", negated: false },
    { key: "", value: route.route, negated: false },
  ]);
  return <Link href={href("/traffic", { filter })} title={formatCount(route.exchanges)} className="hover:underline">{formatShortCount(route.exchanges)}</Link>;
}

function DraftLink({ route }: { route: SchemaUndocumentedRoute }) {
  const href = useHref();
  const filter = formatFilter([
    { key: "protocol", value: route.protocol, negated: false },
    { key: "method", value: route.method, negated: false },
    { key: "", value: route.route, negated: false },
  ]);
  return (
    <Link
      href={href("/apis/draft", { filter, kind: route.protocol === "mqtt" ? "asyncapi" : undefined })}
      aria-label={`Draft a contract for ${route.method} ${route.route}`}
      className="link inline-flex min-h-6 items-center whitespace-nowrap"
    >
      Draft<span className="max-sm:hidden">&nbsp;a contract</span>
    </Link>
  );
}
