import type { SchemaCoapObservation } from "@/api/schema.gen";
import { CopyableCode } from "@/components/Copy";
import { EmptyRow } from "@/components/EmptyRow";
import { EmptyState } from "@/components/EmptyState";
import { FilterBar } from "@/components/FilterBar";
import { Page } from "@/components/Page";
import { Table, type Column } from "@/components/Table";
import { RelativeTime } from "@/components/values";
import { useFilter } from "@/hooks/url";
import type { FilterField } from "@/lib/filter";
import { formatCount } from "@/lib/format";
import { useObservations } from "./api";
import { EndObservation } from "./EndObservation";
import { Caller, ownerFields, Views } from "./Views";

const fields: readonly FilterField[] = [{ key: "path", help: "such as /trackers/*" }, ...ownerFields];

const columns: readonly Column<SchemaCoapObservation>[] = [
  { id: "path", header: "Path", width: "minmax(120px, 1.6fr)", cell: (o) => <code>{o.path}</code> },
  { id: "caller", header: "Caller", width: "minmax(80px, 1fr)", from: 420, cell: (o) => <Caller of={o} /> },
  { id: "source", header: "Source", width: "minmax(150px, 1fr)", from: 640, cell: (o) => <code>{o.source}</code> },
  { id: "since", header: "Since", width: "104px", from: 520, cell: (o) => <RelativeTime time={o.since} /> },
  { id: "sent", header: "Notifications", width: "96px", align: "end", from: 360, cell: (o) => <span title={o.waiting ? "the newest is not acknowledged yet" : undefined}>{formatCount(o.sent)}</span> },
  { id: "listener", header: "Listener", width: "80px", from: 900, cell: (o) => <code>{o.listener}</code> },
  { id: "node", header: "Gateway", width: "88px", from: 1000, cell: (o) => <code>{o.node}</code> },
  { id: "end", header: "Decide", width: "64px", align: "end", cell: (o) => <EndObservation of={o} /> },
];

/** What CoAP clients observe (RFC 7641). */
export default function ObservationsPage() {
  const { text, setText } = useFilter();
  const observations = useObservations(text);
  return (
    <Page title="CoAP observations" fill sentence="Clients that are notified whenever a resource changes.">
      <Views here="/coap/observations" />
      <FilterBar fields={fields} text={text} onChange={setText} placeholder="Filter: path:/trackers/*, device:pump-17, or a part of an address or device's name" />
      <Table
        label="CoAP observations"
        columns={columns}
        pages={observations}
        rowKey={(o) => o.id}
        empty={
          <EmptyRow>{text ? <EmptyState title="No observation fits."><p className="text-soft">Loosen the filter.</p></EmptyState> : (
            <EmptyState title="Nobody observes a resource.">
              <p className="text-soft">Operations whose contract says <code>observe: true</code> can be observed, with a token that may read them:</p>
              <CopyableCode label="Command that observes a resource" text="fieldgate coap observe /trackers/t1/position --token-file app.token" />
            </EmptyState>
          )}</EmptyRow>
        }
      />
    </Page>
  );
}
