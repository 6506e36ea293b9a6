import { useMemo } from "react";
import { Link } from "wouter";
import type { SchemaUpstream, SchemaUpstreamAddress } from "@/api/schema.gen";
import { Badge, ToneIcon } from "@/components/Badge";
import { CopyableCode } from "@/components/Copy";
import { Drawer } from "@/components/Drawer";
import { EmptyRow } from "@/components/EmptyRow";
import { EmptyState, Skeleton } from "@/components/EmptyState";
import { FilterBar } from "@/components/FilterBar";
import { Page } from "@/components/Page";
import { Table, type Column } from "@/components/Table";
import { Duration } from "@/components/values";
import { useDrawer } from "@/hooks/drawer";
import { useFilter, useHereHref, useHref } from "@/hooks/url";
import type { FilterField } from "@/lib/filter";
import { formatCount } from "@/lib/format";
import { useAllUpstreams, useUpstreams } from "./api";
import { upstreamState } from "./state";
import { UpstreamDetail } from "./UpstreamDetail";

const fields: readonly FilterField[] = [
  { key: "state", help: "healthy, or with something that needs a look", values: ["healthy", "unhealthy"] },
  { key: "circuit", help: "whether calls are refused", values: ["closed", "open", "half-open"] },
  { key: "name", help: "such as ingest*" },
  { key: "node", help: "a gateway that has it" },
  { key: "algorithm", help: "how calls are spread", values: ["round-robin", "weighted", "least-requests", "two-choices", "peak-ewma", "hash"] },
];

const None = () => <span className="text-quiet">–</span>;

function Addresses({ of }: { of: readonly SchemaUpstreamAddress[] }) {
  const first = of[0];
  if (!first) return <None />;
  return (
    <span className="inline-flex min-w-0 items-center gap-1.5" title={of.map((a) => `${a.address}${a.why ? `: ${a.why}` : ""}`).join("\n")}>
      <ToneIcon tone={first.unhealthy > 0 ? "bad" : first.healthy > 0 ? "good" : "neutral"} size={12} />
      <span className="sr-only">{first.unhealthy > 0 ? "unhealthy" : first.healthy > 0 ? "healthy" : "not used"}: </span>
      <code className="truncate">{first.address}</code>
      {of.length > 1 && <span className="shrink-0 text-quiet">and {of.length - 1} more</span>}
    </span>
  );
}

const columns: readonly Column<SchemaUpstream>[] = [
  { id: "name", header: "Upstream", width: "minmax(110px, 1fr)", cell: (u) => <span className="font-mono text-xs">{u.name}</span> },
  { id: "state", header: "State", width: "104px", cell: (u) => { const { tone, word } = upstreamState(u); return <Badge tone={tone}>{word}</Badge>; } },
  { id: "healthy", header: "Healthy", width: "72px", align: "end", from: 340, cell: (u) => <>{formatCount(u.healthy)} of {formatCount(u.healthy + u.unhealthy)}</> },
  { id: "addresses", header: "Addresses", width: "minmax(200px, 2fr)", from: 720, cell: (u) => <Addresses of={u.addresses} /> },
  { id: "why", header: "Why", width: "minmax(180px, 2fr)", from: 1100, cell: (u) => u.problem || u.addresses.find((a) => a.why)?.why || <None /> },
  { id: "circuit", header: "Circuit", width: "88px", from: 860, cell: (u) => u.circuit ?? <None /> },
  { id: "inFlight", header: "In flight", width: "72px", align: "end", from: 560, cell: (u) => formatCount(u.inFlight) },
  { id: "latency", header: "Latency", width: "80px", align: "end", from: 480, cell: (u) => (u.latency ? <Duration micros={Math.round(u.latency * 1000)} /> : <None />) },
  { id: "failures", header: "Failed", width: "88px", align: "end", from: 640, cell: (u) => <span title={`${u.failures} of ${u.calls} calls since the gateways started`}>{formatCount(u.failures)}</span> },
  { id: "gateways", header: "Gateways", width: "80px", align: "end", from: 1000, cell: (u) => formatCount(u.gateways.length) },
];

/** The services behind the gateways: which of their addresses answer, and why one is left out. */
export default function UpstreamsPage() {
  const { text, setText } = useFilter();
  const upstreams = useUpstreams(text);
  const keys = useMemo(() => upstreams.rows.map((u) => u.name), [upstreams.rows]);
  const drawer = useDrawer(keys, (name) => `/upstreams/${encodeURIComponent(name)}`);
  const here = useHereHref();
  const href = useHref();
  return (
    <Page
      title="Upstreams"
      fill
      sentence={<UpstreamsSentence />}
      drawer={
        drawer.open && (
          <Drawer
            title={<span className="font-mono">{drawer.open}</span>}
            page={href(`/upstreams/${encodeURIComponent(drawer.open)}`)}
            onClose={drawer.close}
            onNext={drawer.next}
            onPrevious={drawer.previous}
            width="wide"
          >
            <UpstreamDetail key={drawer.open} name={drawer.open} />
          </Drawer>
        )
      }
    >
      <FilterBar fields={fields} text={text} onChange={setText} placeholder="Filter: state:unhealthy, or a part of a name or address" />
      <Table
        label="Upstreams"
        columns={columns}
        pages={upstreams}
        rowKey={(u) => u.name}
        rowHref={(u) => here({ open: u.name })}
        open={drawer.open}
        empty={
          <EmptyRow>{text ? (
            <EmptyState title="No upstream fits.">
              <p className="text-soft">Loosen the filter, or <Link href={href("/upstreams")} className="link">show all upstreams</Link>.</p>
            </EmptyState>
          ) : (
            <EmptyState title="No gateway has an upstream yet.">
              <p className="text-soft">An upstream is a service behind the gateway. Put it into the environment file of each node, then send the node SIGHUP; contracts call it by its name.</p>
              <CopyableCode label="Lines for the environment file" text={"upstreams:\n  ingest:\n    addresses: [http://127.0.0.1:9000]\n    health: {http: /healthz}"} />
              <p className="text-soft">Where the file says <code>discover: {"{registered: true}"}</code> for it, services register their addresses themselves:</p>
              <CopyableCode label="Command that registers an address" text="fieldgate upstream register ingest http://127.0.0.1:9000 --ttl 30s" />
            </EmptyState>
          )}</EmptyRow>
        }
      />
    </Page>
  );
}

/** "3 upstreams. 1 of them needs a look." */
function UpstreamsSentence() {
  const href = useHref();
  const { data } = useAllUpstreams();
  if (!data) return <Skeleton className="my-1.5 h-3 w-64 max-w-full" />;
  const count = data.items.length;
  const ill = data.items.filter((u) => u.unhealthy > 0 || u.problem || u.circuit === "open" || u.circuit === "half-open").length // as the filter counts;
  if (count === 0) return "No gateway has an upstream yet.";
  return (
    <>
      <Link href={href("/upstreams")} className="link">{formatCount(count)}{data.next && "+"} {count === 1 ? "upstream" : "upstreams"}</Link>.{" "}
      {ill === 0 ? "Every address answers." : (
        <><Link href={href("/upstreams", { filter: "state:unhealthy" })} className="link">{formatCount(ill)}</Link> of them {ill === 1 ? "needs" : "need"} a look.</>
      )}
    </>
  );
}
