import { useMemo } from "react";
import { Link } from "wouter";
import type { SchemaCoapPeer } from "@/api/schema.gen";
import { CopyableCode } from "@/components/Copy";
import { Drawer } from "@/components/Drawer";
import { EmptyRow } from "@/components/EmptyRow";
import { EmptyState, Skeleton } from "@/components/EmptyState";
import { FilterBar } from "@/components/FilterBar";
import { MissingGateways } from "@/components/MissingGateways";
import { Page } from "@/components/Page";
import { Table, type Column } from "@/components/Table";
import { RelativeTime } from "@/components/values";
import { useDrawer } from "@/hooks/drawer";
import { useFilter, useHereHref, useHref } from "@/hooks/url";
import { credentialWords, transportOf } from "@/lib/coap";
import type { FilterField } from "@/lib/filter";
import { formatCount } from "@/lib/format";
import { usePeerCount, usePeers } from "./api";
import { PeerDetail } from "./PeerDetail";
import { Caller, None, ownerFields, Views } from "./Views";

const fields: readonly FilterField[] = [
  ...ownerFields,
  { key: "observes", help: "whether it observes something", values: ["yes", "no"] },
  { key: "transfers", help: "whether a body is on its way in blocks", values: ["yes", "no"] },
  { key: "verified", help: "whether its address is known to be its own", values: ["yes", "no"] },
  { key: "session", help: "whether it has a DTLS session or a connection", values: ["yes", "no"] },
  { key: "credential", help: "how it has shown who it is", values: ["token", "psk", "certificate", "none"] },
  { key: "since", help: "heard, not longer ago" },
];

const columns: readonly Column<SchemaCoapPeer>[] = [
  { id: "source", header: "Source", width: "minmax(150px, 1.4fr)", cell: (p) => <code>{p.source}</code> },
  { id: "caller", header: "Caller", width: "minmax(90px, 1fr)", from: 300, cell: (p) => <Caller of={p} /> },
  { id: "transport", header: "Transport", width: "88px", from: 500, cell: (p) => <span title={[`listener ${p.listener}`, p.cipher].filter(Boolean).join(", ")}>{transportOf(p.listener)}</span> },
  { id: "heard", header: "Last heard", width: "104px", from: 440, cell: (p) => (p.heardAt ? <RelativeTime time={p.heardAt} /> : <None />) },
  { id: "observations", header: "Observes", width: "84px", align: "end", from: 560, cell: (p) => formatCount(p.observations) },
  { id: "transfers", header: "Transfers", width: "84px", align: "end", from: 640, cell: (p) => formatCount(p.transfers) },
  { id: "requests", header: "Open", width: "64px", align: "end", from: 720, cell: (p) => <span title={`${p.requests} of its requests and ${p.calls} of the gateway's are not answered yet`}>{formatCount(p.requests + p.calls)}</span> },
  { id: "credential", header: "Credential", width: "132px", from: 820, cell: (p) => (p.credential ? credentialWords(p.credential) : <None />) },
  { id: "opened", header: "Session since", width: "104px", from: 940, cell: (p) => (p.openedAt ? <RelativeTime time={p.openedAt} /> : <None />) },
  { id: "verified", header: "Verified", width: "76px", from: 1040, cell: (p) => (p.verified ? "yes" : <span className="text-quiet">no</span>) },
  { id: "node", header: "Gateway", width: "88px", from: 1120, cell: (p) => <code>{p.node}</code> },
];

const pageOf = (id: string) => `/coap/peers/${encodeURIComponent(id)}`;

/** Who speaks CoAP with the gateways. */
export default function PeersPage() {
  const { text, setText } = useFilter();
  const peers = usePeers(text);
  const { data } = usePeerCount();
  const keys = useMemo(() => peers.rows.map((p) => p.id), [peers.rows]);
  const drawer = useDrawer(keys, pageOf);
  const here = useHereHref();
  const href = useHref();
  const open = peers.rows.find((p) => p.id === drawer.open);
  return (
    <Page
      title="CoAP peers"
      fill
      sentence={<PeersSentence />}
      drawer={
        drawer.open && (
          <Drawer title={<span className="font-mono">{open?.source ?? "Peer"}</span>} page={href(pageOf(drawer.open))} onClose={drawer.close} onNext={drawer.next} onPrevious={drawer.previous} width="wide">
            <PeerDetail key={drawer.open} id={drawer.open} />
          </Drawer>
        )
      }
    >
      <Views here="/coap" />
      <MissingGateways nodes={data?.missing} />
      <FilterBar fields={fields} text={text} onChange={setText} placeholder="Filter: device:pump-17, observes:yes, or a part of an address or device's name" />
      <Table
        label="CoAP peers"
        columns={columns}
        pages={peers}
        rowKey={(p) => p.id}
        rowHref={(p) => here({ open: p.id })}
        open={drawer.open}
        empty={
          <EmptyRow>{text ? (
            <EmptyState title="No peer fits.">
              <p className="text-soft">Loosen the filter, or <Link href={href("/coap")} className="link">show all peers</Link>.</p>
            </EmptyState>
          ) : (
            <EmptyState title="Nobody has spoken CoAP with the gateways yet.">
              <p className="text-soft">A peer is an address that has sent a request; it is forgotten when others need its place. Try it:</p>
              <CopyableCode label="Command that lists what there is over CoAP" text="fieldgate coap get /.well-known/core" />
            </EmptyState>
          )}</EmptyRow>
        }
      />
    </Page>
  );
}

/** "12 peers: 2 observe, 1 has a body on its way." */
function PeersSentence() {
  const href = useHref();
  const { data } = usePeerCount();
  if (!data) return <Skeleton className="my-1.5 h-3 w-64 max-w-full" />;
  const more = data.next ? "+" : "";
  const count = data.items.length;
  if (count === 0) return "No peer is known.";
  const observing = data.items.filter((p) => p.observations > 0).length;
  const sessions = data.items.filter((p) => p.openedAt).length;
  const transferring = data.items.filter((p) => p.transfers > 0).length;
  const door = (filter: string, n: number) => <Link href={href("/coap", { filter })} className="link">{formatCount(n)}{more}</Link>;
  return (
    <>
      {door("", count)} {count === 1 ? "peer" : "peers"}: {door("session:yes", sessions)} {sessions === 1 ? "has" : "have"} a session or connection, {door("observes:yes", observing)} {observing === 1 ? "observes" : "observe"} something, {door("transfers:yes", transferring)} {transferring === 1 ? "has" : "have"} a body on its way.
    </>
  );
}
