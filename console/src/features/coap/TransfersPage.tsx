import type { SchemaCoapTransfer } from "@/api/schema.gen";
import { EmptyRow } from "@/components/EmptyRow";
import { EmptyState } from "@/components/EmptyState";
import { FilterBar } from "@/components/FilterBar";
import { Page } from "@/components/Page";
import { Table, type Column } from "@/components/Table";
import { RelativeTime } from "@/components/values";
import { useFilter } from "@/hooks/url";
import type { FilterField } from "@/lib/filter";
import { useTransfers } from "./api";
import { Caller, ownerFields, Progress, Views } from "./Views";

const fields: readonly FilterField[] = [{ key: "path", help: "such as /firmware*" }, { key: "direction", help: "from the peer or to it", values: ["up", "down"] }, ...ownerFields];

const columns: readonly Column<SchemaCoapTransfer>[] = [
  { id: "path", header: "Path", width: "minmax(130px, 1.6fr)", cell: (t) => <><span className="text-soft">{t.method}</span> <code>{t.path}</code></> },
  { id: "size", header: "Size", width: "132px", align: "end", cell: (t) => <Progress of={t} /> },
  { id: "direction", header: "Direction", width: "84px", from: 420, cell: (t) => (t.upload ? "from it" : "to it") },
  { id: "caller", header: "Caller", width: "minmax(80px, 1fr)", from: 520, cell: (t) => <Caller of={t} /> },
  { id: "source", header: "Source", width: "minmax(150px, 1fr)", from: 680, cell: (t) => <code>{t.source}</code> },
  { id: "used", header: "Newest block", width: "104px", from: 600, cell: (t) => <RelativeTime time={t.usedAt} /> },
  { id: "node", header: "Gateway", width: "88px", from: 1000, cell: (t) => <code>{t.node}</code> },
];

/** Bodies that are on their way in blocks (RFC 7959). */
export default function TransfersPage() {
  const { text, setText } = useFilter();
  const transfers = useTransfers(text);
  return (
    <Page title="CoAP block transfers" fill sentence="Bodies that are too large for one message, and not whole yet.">
      <Views here="/coap/transfers" />
      <FilterBar fields={fields} text={text} onChange={setText} placeholder="Filter: direction:up, path:/firmware*, or a part of an address or device's name" />
      <Table
        label="CoAP block transfers"
        columns={columns}
        pages={transfers}
        rowKey={(t) => `${t.peer} ${t.method} ${t.path} ${t.upload}`}
        empty={
          <EmptyRow>
            <EmptyState title={text ? "No transfer fits." : "No body is on its way."}>
              <p className="text-soft">{text ? "Loosen the filter." : "A body of more than one block is listed here until its last block has gone, or nobody has asked for the next one for four minutes."}</p>
            </EmptyState>
          </EmptyRow>
        }
      />
    </Page>
  );
}
