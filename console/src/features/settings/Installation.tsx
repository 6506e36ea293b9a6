import type { ReactNode } from "react";
import { Link } from "wouter";
import { asProblem } from "@/api/problem";
import type { SchemaAccessLog, SchemaCertificate, SchemaCoapListener, SchemaDtlsState, SchemaGateway, SchemaSeverity, SchemaStatus } from "@/api/schema.gen";
import { Badge, ToneIcon } from "@/components/Badge";
import { Skeleton } from "@/components/EmptyState";
import { Facts } from "@/components/Facts";
import { Section } from "@/components/Page";
import { PlainTable, type PlainColumn } from "@/components/PlainTable";
import { ProblemNotice } from "@/components/ProblemNotice";
import { Bytes, Expiry, RelativeTime } from "@/components/values";
import { useHref } from "@/hooks/url";
import { refusalText, transportOf } from "@/lib/coap";
import { formatCount } from "@/lib/format";
import { useStatus } from "./api";

/** How this installation is: its node, its engines, its gateways, and what is stale or open. */
export function Installation() {
  const { data: status, error, refetch } = useStatus();
  if (error && !status) return <ProblemNotice problem={asProblem(error)} onRetry={() => void refetch()} />;
  if (!status) return <Skeleton className="h-80 w-full" />;
  return (
    <div className="flex flex-col gap-4">
      <Open status={status} />
      <div className="grid items-start gap-4 lg:grid-cols-2">
        <Section title="This node"><NodeFacts status={status} /></Section>
        <Section title="Where it listens">
          {status.listeners.length === 0 ? <p className="text-soft">Nowhere.</p> : <Facts facts={status.listeners.map((l) => [l.name, <code key={l.name}>{l.address}</code>] as const)} />}
        </Section>
      </div>
      <Section title="Gateways" flush>
        {status.gateways.length === 0 ? (
          <p className="px-3 py-4 text-soft">None was heard within a day. Start one with <code>fieldgate serve --role gateway</code>.</p>
        ) : (
          <PlainTable label="Gateways" columns={gatewayColumns} rows={status.gateways} rowKey={(g) => g.node} />
        )}
      </Section>
      {status.gateways.some((g) => g.coap?.length) && (
        <Section title="CoAP listeners of the gateways" flush>
          <PlainTable
            label="CoAP listeners"
            columns={coapColumns}
            rows={status.gateways.flatMap((g) => (g.coap ?? []).map((listener) => ({ gateway: g, listener, key: `${g.node} ${listener.name}` })))}
            rowKey={(r) => r.key}
          />
        </Section>
      )}
      {status.gateways.some((g) => g.cache.entries > 0 || g.cache.hits > 0) && (
        <Section title="Answers that the gateways keep" flush>
          <PlainTable label="Caches" columns={cacheColumns} rows={status.gateways} rowKey={(g) => g.node} />
        </Section>
      )}
      <Section title="Certificates of the gateways" flush>
        {status.gateways.every((g) => !g.certificates?.length) ? (
          <p className="px-3 py-4 text-soft">None: no gateway listens with TLS. Set <code>listen.https</code> and <code>tls</code> in the environment file.</p>
        ) : (
          <PlainTable
            label="Certificates"
            columns={certificateColumns}
            rows={status.gateways.flatMap((g) => (g.certificates ?? []).map((certificate, i) => ({ node: g.node, certificate, key: `${g.node} ${i}` })))}
            rowKey={(r) => r.key}
          />
        )}
      </Section>
    </div>
  );
}

function NodeFacts({ status }: { status: SchemaStatus }) {
  const href = useHref();
  return (
    <Facts
      facts={[
        ["Name", <code>{status.node}</code>],
        ["Version", <code>{status.version}</code>],
        ["Role", status.role],
        ["Started", <RelativeTime time={status.startedAt} />],
        ["Store", status.store],
        ["Bus", status.bus],
        ["Snapshot", <span className="tabular" title="Version of the contracts in force">{formatCount(status.snapshot)}</span>],
        ["Directory", <span className="tabular" title="Sequence of the newest change to devices and apps">{formatCount(status.directory)}</span>],
        ["APIs", <Link href={href("/apis")} className="link tabular">{formatCount(status.apis)}</Link>],
        ["Devices", <Link href={href("/devices")} className="link tabular">{formatCount(status.devices)}</Link>],
        ["Apps", <Link href={href("/apps")} className="link tabular">{formatCount(status.apps)}</Link>],
        ["Exchanges", <span className="tabular">{formatCount(status.exchanges)} since it was set up</span>],
      ]}
    />
  );
}

function Open({ status: { warnings, health } }: { status: SchemaStatus }) {
  const href = useHref();
  if (warnings.length + health.length === 0) {
    return <p className="flex items-center gap-2 text-soft"><ToneIcon tone="good" /> Nothing is stale, out of reach or left open.</p>;
  }
  return (
    <Section title="Needs a look" flush>
      <ul>
        {health.map((h) => (
          <Item key={`${h.part} ${h.node ?? ""}`} tone="bad" message={capital(h.message)} remedy={<>{h.part}{h.node && ` at ${h.node}`}, since <RelativeTime time={h.since} /></>} />
        ))}
        {warnings.map((w) => (
          <Item
            key={`${w.code} ${w.api ?? ""} ${w.version ?? ""} ${w.message}`}
            tone={w.severity}
            message={w.api && w.message.startsWith(w.api) ? w.message : capital(w.message)}
            remedy={<>{w.remedy}.{w.api && <> <Link href={href(`/apis/${encodeURIComponent(w.api)}`)} className="link">Show {w.api}</Link></>}</>}
          />
        ))}
      </ul>
    </Section>
  );
}

/** The API's phrases as sentences. A name keeps its letters. */
const capital = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);

function Item({ tone, message, remedy }: { tone: SchemaSeverity; message: string; remedy: ReactNode }) {
  return (
    <li className="flex gap-2.5 border-t border-line px-3 py-2.5 first:border-t-0">
      <span className="mt-0.5"><ToneIcon tone={tone} /></span>
      <div className="min-w-0">
        <p className="font-medium"><span className="sr-only">{tone === "bad" ? "urgent" : tone}: </span>{message.replace(/\.$/, "")}.</p>
        <p className="text-soft first-letter:uppercase">{remedy}</p>
      </div>
    </li>
  );
}

const cacheColumns: readonly PlainColumn<SchemaGateway>[] = [
  { id: "node", header: "Gateway", cell: (g) => <code>{g.node}</code> },
  { id: "entries", header: "Answers", align: "end", cell: ({ cache }) => formatCount(cache.entries) },
  { id: "bytes", header: "Memory", align: "end", cell: ({ cache }) => <Bytes bytes={cache.bytes} /> },
  { id: "hits", header: "Answered from it", align: "end", cell: ({ cache }) => <Share of={cache.hits} all={cache.hits + cache.misses} /> },
  { id: "stale", header: "Of these stale", align: "end", from: "md", cell: ({ cache }) => formatCount(cache.stale) },
  { id: "revalidated", header: "Held still", align: "end", from: "md", cell: ({ cache }) => formatCount(cache.revalidated) },
  { id: "evicted", header: "Made room", align: "end", from: "lg", cell: ({ cache }) => formatCount(cache.evicted) },
];

function Share({ of, all }: { of: number; all: number }) {
  return <>{formatCount(of)}{all > 0 && <span className="text-soft"> ({Math.round((100 * of) / all)} %)</span>}</>;
}

interface CoapRow {
  gateway: SchemaGateway;
  listener: SchemaCoapListener;
  key: string;
}

const coapColumns: readonly PlainColumn<CoapRow>[] = [
  { id: "name", header: "Listener", cell: ({ listener: l }) => <><code>{l.name}</code> <span className="text-quiet">{transportOf(l.name)}</span></> },
  { id: "address", header: "Address", from: "md", cell: ({ listener: l }) => (l.address ? <code>{l.address}</code> : <span className="text-quiet">as HTTP</span>) },
  { id: "node", header: "Gateway", from: "sm", cell: (r) => <code>{r.gateway.node}</code> },
  { id: "peers", header: "Peers", align: "end", cell: (r) => <CoapPeers of={r} /> },
  { id: "observations", header: "Observations", align: "end", from: "md", cell: ({ listener: l }) => formatCount(l.observations) },
  { id: "transfer", header: "In blocks", align: "end", from: "lg", cell: ({ listener: l }) => (l.transferBytes ? <Bytes bytes={l.transferBytes} /> : <span className="text-quiet">nothing</span>) },
  { id: "refused", header: "Refused", align: "end", from: "sm", cell: ({ listener: l }) => <span title="Requests answered 5.03, and connections closed, because a limit was reached; since the gateway started">{formatCount(l.refused)}</span> },
  { id: "limited", header: "Cut down", align: "end", from: "lg", cell: ({ listener: l }) => <span title="Answers cut down or challenged because the address was not verified; since the gateway started">{formatCount(l.limited)}</span> },
  { id: "handshakes", header: "Handshakes", from: "sm", cell: ({ gateway: g, listener: l }) => (l.name === "coaps" && g.dtls ? <Handshakes of={g.dtls} /> : <span className="text-quiet">–</span>) },
];

function CoapPeers({ of: { gateway, listener } }: { of: CoapRow }) {
  const href = useHref();
  const sessions = listener.name === "coaps" && gateway.dtls;
  return <Link href={href("/coap", { filter: `listener:${listener.name} node:${gateway.node}` })} className="link">{formatCount(sessions ? sessions.sessions : listener.peers)}</Link>;
}

function Handshakes({ of }: { of: SchemaDtlsState }) {
  return (
    <>
      {formatCount(of.handshakes)} done{of.resumed > 0 && `, ${formatCount(of.resumed)} of them resumed`}{of.unfinished > 0 && `, ${formatCount(of.unfinished)} under way`}
      {of.refused.length > 0 && <span className="block text-soft">refused: {refusalText(of.refused)}</span>}
    </>
  );
}

interface CertificateRow {
  node: string;
  certificate: SchemaCertificate;
  key: string;
}

const sources: Record<SchemaCertificate["source"], string> = { file: "file", "internal-ca": "own authority", acme: "ACME" };

const certificateColumns: readonly PlainColumn<CertificateRow>[] = [
  { id: "names", header: "Names", cell: ({ certificate: c }) => <code className="break-all">{c.names.join(", ") || c.file}</code> },
  { id: "node", header: "Gateway", from: "sm", cell: (r) => <code>{r.node}</code> },
  { id: "ends", header: "Ends", cell: ({ certificate: c }) => (c.notAfter ? <Expiry time={c.notAfter} /> : "there is none yet") },
  { id: "source", header: "Source", from: "md", cell: ({ certificate: c }) => <span title={c.file}>{sources[c.source]}</span> },
  {
    id: "problem", header: "Problem", from: "sm",
    cell: ({ certificate: c }) => (c.problem ? <span className="inline-flex items-start gap-1.5"><ToneIcon tone="warning" />{c.problem}</span> : <span className="text-quiet">none</span>),
  },
];

function AccessLog({ log }: { log: SchemaAccessLog | undefined }) {
  if (!log) return <span className="text-quiet">none</span>;
  if (log.problem) return <span className="inline-flex items-start gap-1.5"><ToneIcon tone="bad" />{log.problem}</span>;
  return <>{formatCount(log.written)} lines{log.dropped > 0 && `, ${formatCount(log.dropped)} lost`}</>;
}

const gatewayColumns: readonly PlainColumn<SchemaGateway>[] = [
  { id: "node", header: "Gateway", cell: (g) => <code>{g.node}</code> },
  { id: "state", header: "State", cell: (g) => (g.behind ? <span className="inline-flex items-start gap-1.5"><ToneIcon tone="warning" />{g.behind}</span> : <Badge tone="good">in step</Badge>) },
  { id: "seen", header: "Heard", from: "sm", cell: (g) => <RelativeTime time={g.seenAt} /> },
  { id: "connections", header: "Connections", align: "end", from: "sm", cell: (g) => (g.connections === undefined ? "–" : formatCount(g.connections)) },
  { id: "accessLog", header: "Access log", from: "lg", cell: (g) => <AccessLog log={g.accessLog} /> },
  { id: "snapshot", header: "Snapshot", align: "end", from: "md", cell: (g) => formatCount(g.snapshot) },
  { id: "directory", header: "Directory", align: "end", from: "md", cell: (g) => formatCount(g.directory) },
  { id: "outbox", header: "Outbox", align: "end", from: "md", cell: (g) => (g.recordsWaiting ? <Bytes bytes={g.recordsWaiting} /> : <span className="text-quiet">empty</span>) },
  { id: "since", header: "Oldest record", from: "lg", cell: (g) => (g.recordsSince ? <RelativeTime time={g.recordsSince} /> : <span className="text-quiet">none waits</span>) },
  {
    id: "dropped", header: "Records lost", align: "end", from: "md",
    cell: (g) => (g.recordsDropped ? <span className="inline-flex items-center gap-1 text-bad"><ToneIcon tone="bad" size={12} />{formatCount(g.recordsDropped)}</span> : <span className="text-quiet">0</span>),
  },
];
