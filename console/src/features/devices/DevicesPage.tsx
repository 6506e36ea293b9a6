import { Plus, Upload } from "lucide-react";
import { lazy, Suspense, useMemo, useState } from "react";
import { Link } from "wouter";
import type { SchemaDevice } from "@/api/schema.gen";
import { ProtocolBadge, protocols, StateBadge } from "@/components/Badge";
import { CommandButton } from "@/components/Button";
import { Drawer } from "@/components/Drawer";
import { EmptyRow } from "@/components/EmptyRow";
import { EmptyState, Skeleton } from "@/components/EmptyState";
import { FilterBar } from "@/components/FilterBar";
import { Page } from "@/components/Page";
import { Table, type Column } from "@/components/Table";
import { RelativeTime } from "@/components/values";
import { useCommands, type Command } from "@/hooks/commands";
import { useDrawer } from "@/hooks/drawer";
import { useLiveFigures } from "@/hooks/events";
import { useFilter, useHereHref, useHref, useUrlParam } from "@/hooks/url";
import type { FilterField } from "@/lib/filter";
import { formatCount, formatShortCount } from "@/lib/format";
import { problemWords } from "@/lib/words";
import { useMay, useSession } from "@/session/session";
import { useDeviceCount, useDevices, useStatus, type DeviceOrder } from "./api";
import { DeviceDetail } from "./DeviceDetail";

const AddDevice = lazy(() => import("./AddDevice"));
const ImportDevices = lazy(() => import("./ImportDevices"));

const onlineFilter = "since:5m";

const columns: readonly Column<SchemaDevice>[] = [
  { id: "id", header: "Device", width: "minmax(130px, 1.6fr)", cell: (d) => <span className="font-mono text-xs">{d.id}</span> },
  { id: "state", header: "State", width: "108px", cell: (d) => <StateBadge state={d.state} /> },
  { id: "model", header: "Model", width: "minmax(60px, 0.7fr)", from: 640, cell: (d) => d.model || <None /> },
  { id: "firmware", header: "Firmware", width: "minmax(70px, 0.7fr)", from: 760, cell: (d) => (d.firmware ? <span className="tabular">{d.firmware}</span> : <None />) },
  { id: "protocol", header: "Protocol", width: "96px", from: 900, cell: (d) => (d.presence ? <ProtocolBadge protocol={d.presence.protocol} /> : <None />) },
  { id: "seen", header: "Last seen", width: "100px", from: 340, cell: (d) => (d.presence ? <RelativeTime time={d.presence.seenAt} /> : <span className="text-quiet">never</span>) },
  { id: "exchanges", header: "Exchanges today", width: "112px", align: "end", from: 1000, cell: (d) => <TodayLink device={d} count={d.presence?.exchangesToday} filter="" /> },
  { id: "refused", header: "Refused today", width: "100px", align: "end", from: 560, cell: (d) => <TodayLink device={d} count={d.presence?.refusedToday} filter=" status:denied" /> },
  { id: "why", header: "Last refusal", width: "minmax(230px, 2.2fr)", from: 1100, cell: (d) => <LastRefusal device={d} /> },
];

const fields: readonly FilterField[] = [
  { key: "state", help: "what was decided about it", values: ["active", "quarantined", "revoked"] },
  { key: "model", help: "such as T2" },
  { key: "firmware", help: "such as 1.8.*" },
  { key: "protocol", help: "that it used last", values: protocols },
  { key: "since", help: "seen since, such as 15m or 7d" },
  { key: "id", help: "such as pump-*" },
];

const None = () => <span className="text-quiet">–</span>;

function TodayLink({ device, count, filter }: { device: SchemaDevice; count: number | undefined; filter: string }) {
  const href = useHref();
  if (!count) return <span className="text-quiet">{count ?? "–"}</span>;
  return (
    <Link href={href("/traffic", { filter: `device:${device.id}${filter}` })} className="relative z-10 hover:underline" title={formatCount(count)}>
      {formatShortCount(count)}
    </Link>
  );
}

function LastRefusal({ device: { presence } }: { device: SchemaDevice }) {
  if (!presence?.problem || !presence.refusedAt) return <None />;
  return (
    <span title={problemWords(presence.problem).remedy}>
      {problemWords(presence.problem).title}, <span className="text-quiet"><RelativeTime time={presence.refusedAt} /></span>
    </span>
  );
}

/** Devices: who is there, who was refused and why, and what is decided about them. */
export default function DevicesPage() {
  const { text, setText } = useFilter();
  const [orderParam, setOrder] = useUrlParam("order");
  const order: DeviceOrder = orderParam === "seen" ? "seen" : "id";
  const devices = useDevices(text, order);
  const keys = useMemo(() => devices.rows.map((d) => d.id), [devices.rows]);
  const drawer = useDrawer(keys, (id) => `/devices/${encodeURIComponent(id)}`);
  const here = useHereHref();
  const href = useHref();
  const may = useMay("devices.write");
  const { role } = useSession();
  const [dialog, setDialog] = useState<"add" | "import">();
  const refused = may ? undefined : `The role ${role} may not add devices; ask an operator or owner.`;
  const add: Command = { id: "add-device", group: "Do", label: "Add a device", icon: Plus, keys: "n", refused, run: () => setDialog("add") };
  const importing: Command = { id: "import-devices", group: "Do", label: "Import devices", icon: Upload, words: "many ndjson bulk", refused, run: () => setDialog("import") };
  const bySeen: Command = {
    id: "device-order", group: "View", label: order === "id" ? "Most recently seen first" : "In the order of ids", keys: "o",
    run: () => setOrder(order === "id" ? "seen" : ""),
  };
  useCommands([add, importing, bySeen]);

  return (
    <Page
      title="Devices"
      fill
      sentence={<DevicesSentence />}
      actions={
        <>
          <CommandButton command={importing}>Import</CommandButton>
          <CommandButton command={add} kind="primary" />
        </>
      }
      drawer={
        drawer.open && (
          <Drawer
            title={<span className="font-mono">{drawer.open}</span>}
            page={href(`/devices/${encodeURIComponent(drawer.open)}`)}
            onClose={drawer.close}
            onNext={drawer.next}
            onPrevious={drawer.previous}
          >
            <DeviceDetail key={drawer.open} id={drawer.open} />
          </Drawer>
        )
      }
    >
      <div className="flex flex-wrap items-start gap-2">
        <div className="min-w-0 flex-[1_1_280px]">
          <FilterBar fields={fields} text={text} onChange={setText} placeholder="Filter: state:active model:T2, or the beginning of an id" />
        </div>
        <Order order={order} onChange={(next) => setOrder(next === "id" ? "" : next)} />
      </div>
      <Table
        label="Devices"
        columns={columns}
        pages={devices}
        rowKey={(d) => d.id}
        rowHref={(d) => here({ open: d.id })}
        open={drawer.open}
        empty={<EmptyRow><NoDevices filtered={text !== "" || order === "seen"} add={add} /></EmptyRow>}
      />
      <Suspense>
        {dialog === "add" && <AddDevice onClose={() => setDialog(undefined)} />}
        {dialog === "import" && <ImportDevices onClose={() => setDialog(undefined)} />}
      </Suspense>
    </Page>
  );
}

function Order({ order, onChange }: { order: DeviceOrder; onChange: (order: DeviceOrder) => void }) {
  return (
    <div role="group" aria-label="Order" className="flex h-8 rounded border border-line-strong bg-surface p-0.5">
      {([["id", "By id"], ["seen", "Recently seen"]] as const).map(([value, label]) => (
        <button
          key={value}
          type="button"
          aria-pressed={order === value}
          title={value === "seen" ? "Devices that were never seen are only in the order of ids" : undefined}
          className={`rounded-sm px-2.5 text-sm font-medium whitespace-nowrap ${order === value ? "bg-pressed text-text" : "text-soft hover:text-text"}`}
          onClick={() => onChange(value)}
        >
          {label}
        </button>
      ))}
    </div>
  );
}

/** "197 devices, 182 of them online. 2 are in quarantine." */
function DevicesSentence() {
  const status = useStatus();
  const { figures } = useLiveFigures();
  const quarantined = useDeviceCount("state:quarantined");
  const href = useHref();
  if (!status.data || !quarantined.data) return <Skeleton className="my-1.5 h-3 w-80 max-w-full" />;
  const { devices } = status.data;
  const { count, more } = quarantined.data;
  if (devices === 0) return "No device is registered yet.";
  return (
    <>
      <Link href={href("/devices")} className="link">{devices === 1 ? "1 device" : `${formatCount(devices)} devices`}</Link>
      {figures && (
        <>
          , <Link href={href("/devices", { filter: onlineFilter, order: "seen" })} className="link">{figures.devicesOnline === 0 ? "none" : formatCount(figures.devicesOnline)}</Link> of them online
        </>
      )}
      .{" "}
      {count === 0 ? "None is in quarantine." : (
        <>
          <Link href={href("/devices", { filter: "state:quarantined" })} className="link">{formatCount(count)}{more && "+"}</Link> {count === 1 ? "is" : "are"} in quarantine and {count === 1 ? "waits" : "wait"} for a decision.
        </>
      )}
    </>
  );
}

function NoDevices({ filtered, add }: { filtered: boolean; add: Command }) {
  const href = useHref();
  if (filtered) {
    return (
      <EmptyState title="No device fits.">
        <p className="text-soft">
          Loosen the filter, or <Link href={href("/devices")} className="link">show all devices</Link>. Devices that were never seen are only in the order of ids.
        </p>
      </EmptyState>
    );
  }
  return (
    <EmptyState title="No device yet.">
      <p className="text-soft">Each device has an id and a token of its own: you see what it does, and can cut off this one without the others.</p>
      <CommandButton command={add} kind="primary" />
    </EmptyState>
  );
}
