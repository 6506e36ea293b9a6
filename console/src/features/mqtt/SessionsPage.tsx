import { useMemo } from "react";
import { Link } from "wouter";
import type { SchemaMqttSession } from "@/api/schema.gen";
import { Badge } from "@/components/Badge";
import { CopyableCode } from "@/components/Copy";
import { Drawer } from "@/components/Drawer";
import { EmptyRow } from "@/components/EmptyRow";
import { EmptyState, Skeleton } from "@/components/EmptyState";
import { FilterBar } from "@/components/FilterBar";
import { Page } from "@/components/Page";
import { Table, type Column } from "@/components/Table";
import { RelativeTime } from "@/components/values";
import { useDrawer } from "@/hooks/drawer";
import { useFilter, useHereHref, useHref } from "@/hooks/url";
import type { FilterField } from "@/lib/filter";
import { formatCount } from "@/lib/format";
import { useSessionCount, useSessions } from "./api";
import { SessionDetail } from "./SessionDetail";
import { Missing, Views } from "./Views";

const fields: readonly FilterField[] = [
  { key: "state", help: "whether its client is connected", values: ["connected", "away"] },
  { key: "queue", help: "whether messages wait, or are in flight", values: ["waiting", "empty"] },
  { key: "client", help: "such as pump-*" },
  { key: "device", help: "sessions of a device" },
  { key: "principal", help: "sessions of a device or app" },
  { key: "kind", help: "who it is", values: ["device", "app", "anonymous", "foreign"] },
  { key: "version", help: "of MQTT, of those that are connected", values: ["3.1.1", "5"] },
  { key: "subscription", help: "a filter as it was subscribed to, such as plant/*" },
  { key: "node", help: "the gateway" },
  { key: "source", help: "address of the connection, such as 10.0.*" },
  { key: "keepalive", help: "in seconds" },
  { key: "since", help: "connected or away, not longer" },
];

const None = () => <span className="text-quiet">–</span>;

const columns: readonly Column<SchemaMqttSession>[] = [
  { id: "client", header: "Client", width: "minmax(110px, 1.4fr)", cell: (s) => <span className="font-mono text-xs">{s.client}</span> },
  { id: "state", header: "State", width: "112px", cell: (s) => (s.connected ? <Badge tone="good">connected</Badge> : <Badge>away</Badge>) },
  { id: "principal", header: "Caller", width: "minmax(100px, 1fr)", from: 560, cell: (s) => (s.principal ? <span className="font-mono text-xs">{s.principal}</span> : s.kind) },
  { id: "since", header: "Since", width: "104px", from: 440, cell: (s) => (s.since ? <RelativeTime time={s.since} /> : <None />) },
  { id: "version", header: "MQTT", width: "60px", from: 820, cell: (s) => s.version ?? <None /> },
  { id: "subscriptions", header: "Subscriptions", width: "100px", align: "end", from: 720, cell: (s) => formatCount(s.subscriptions) },
  { id: "queued", header: "Queued", width: "72px", align: "end", from: 340, cell: (s) => <span title={`${s.queuedBytes} bytes`}>{formatCount(s.queued)}</span> },
  { id: "inFlight", header: "In flight", width: "72px", align: "end", from: 640, cell: (s) => formatCount(s.inFlight) },
  { id: "source", header: "Source", width: "minmax(130px, 1fr)", from: 1000, cell: (s) => (s.source ? <code>{s.source}</code> : <None />) },
  { id: "node", header: "Gateway", width: "88px", from: 1100, cell: (s) => <code>{s.node}</code> },
];

const pageOf = (id: string) => `/mqtt/sessions/${encodeURIComponent(id)}`;

/** What clients have at the gateways: connections, subscriptions, and the messages that wait. */
export default function SessionsPage() {
  const { text, setText } = useFilter();
  const sessions = useSessions(text);
  const { data } = useSessionCount();
  const keys = useMemo(() => sessions.rows.map((s) => s.id), [sessions.rows]);
  const drawer = useDrawer(keys, pageOf);
  const here = useHereHref();
  const href = useHref();
  const open = sessions.rows.find((s) => s.id === drawer.open);
  return (
    <Page
      title="MQTT sessions"
      fill
      sentence={<SessionsSentence />}
      drawer={
        drawer.open && (
          <Drawer title={<span className="font-mono">{open?.client ?? "Session"}</span>} page={href(pageOf(drawer.open))} onClose={drawer.close} onNext={drawer.next} onPrevious={drawer.previous} width="wide">
            <SessionDetail key={drawer.open} id={drawer.open} />
          </Drawer>
        )
      }
    >
      <Views here="/mqtt" />
      <Missing nodes={data?.missing} />
      <FilterBar fields={fields} text={text} onChange={setText} placeholder="Filter: state:connected, queue:waiting, or a part of a client's or device's name" />
      <Table
        label="MQTT sessions"
        columns={columns}
        pages={sessions}
        rowKey={(s) => s.id}
        rowHref={(s) => here({ open: s.id })}
        open={drawer.open}
        empty={
          <EmptyRow>{text ? (
            <EmptyState title="No session fits.">
              <p className="text-soft">Loosen the filter, or <Link href={href("/mqtt")} className="link">show all sessions</Link>.</p>
            </EmptyState>
          ) : (
            <EmptyState title="No client is connected by MQTT, or has a session.">
              <p className="text-soft">A session begins when a client connects. Try it with a device's token:</p>
              <CopyableCode label="Command that connects and subscribes" text="fieldgate mqtt sub 'plant/#' --token-file device.token" />
            </EmptyState>
          )}</EmptyRow>
        }
      />
    </Page>
  );
}

/** "12 sessions: 10 connected, 2 away. Messages wait for 1 of them." */
function SessionsSentence() {
  const href = useHref();
  const { data } = useSessionCount();
  if (!data) return <Skeleton className="my-1.5 h-3 w-64 max-w-full" />;
  const more = data.next ? "+" : "";
  const count = data.items.length;
  const connected = data.items.filter((s) => s.connected).length;
  const waiting = data.items.filter((s) => s.queued + s.inFlight > 0).length;
  if (count === 0) return "No client has a session.";
  const door = (filter: string, n: number) => <Link href={href("/mqtt", { filter })} className="link">{formatCount(n)}{more}</Link>;
  return (
    <>
      {door("", count)} {count === 1 ? "session" : "sessions"}: {door("state:connected", connected)} connected, {door("state:away", count - connected)} away.{" "}
      {waiting === 0 ? "No message waits." : <>Messages wait for {door("queue:waiting", waiting)} of them.</>}
    </>
  );
}
