import { Ban } from "lucide-react";
import type { SchemaDeviceCommand, SchemaDeviceRegistration } from "@/api/schema.gen";
import { Badge } from "@/components/Badge";
import { IconButton } from "@/components/Button";
import { Facts } from "@/components/Facts";
import { PlainTable, type PlainColumn } from "@/components/PlainTable";
import { showToast } from "@/components/toasts";
import { RelativeTime } from "@/components/values";
import { plural } from "@/lib/format";
import { useMay } from "@/session/session";
import { useCancelCommand, useDeviceCommands } from "./api";
import { duration, linksOf } from "./links";

/** Where a device is reached, what it offers, and what waits for it: of devices that register over CoAP. */
export function DeviceReach({ device, registration }: { device: string; registration: SchemaDeviceRegistration | undefined }) {
  const { data } = useDeviceCommands(device);
  const commands = data?.items ?? [];
  return (
    <div className="flex flex-col gap-4">
      {registration ? <Registration registration={registration} /> : (
        <p className="text-soft">It has not registered with the resource directory of a gateway, by which CoAP devices are reached.</p>
      )}
      {commands.length > 0 && <Commands device={device} commands={commands} />}
    </div>
  );
}

function Registration({ registration: r }: { registration: SchemaDeviceRegistration }) {
  const links = linksOf(r.links);
  return (
    <Facts
      facts={[
        ["Since", <RelativeTime time={r.since} />],
        ["Renewed", r.updatedAt !== r.since && <RelativeTime time={r.updatedAt} />],
        ["Lasts", `${duration(r.leftSeconds)} more`],
        ["Reached at", <span><code className="break-all">{r.base ?? r.address}</code> by <code>{r.transport}</code> of <code>{r.node}</code></span>],
        ["Sleeps", r.sleeps && "Yes: commands wait until it is heard"],
        ["Offers", links.length > 0 && (
          <ul aria-label="What it offers">
            {links.map((link) => <li key={link}><code className="break-all">{link}</code></li>)}
          </ul>
        )],
      ]}
    />
  );
}

function stateTone({ state, reply }: SchemaDeviceCommand) {
  switch (state) {
    case "answered":
      return reply && reply.status >= 400 ? "bad" : "good";
    case "queued":
    case "sent":
      return "warning";
    case "cancelled":
      return "neutral";
    default:
      return "bad";
  }
}

function Commands({ device, commands }: { device: string; commands: readonly SchemaDeviceCommand[] }) {
  const may = useMay("devices.write");
  const cancel = useCancelCommand();
  const columns: PlainColumn<SchemaDeviceCommand>[] = [
    { id: "request", header: "Command", cell: (c) => <code className="break-all">{c.method} {c.path}</code> },
    { id: "state", header: "State", cell: (c) => <Badge tone={stateTone(c)}>{c.state}</Badge> },
    { id: "answer", header: "Answer", cell: (c) => (c.reply ? c.reply.code : c.state === "queued" ? `waits ${duration(c.leftSeconds)}` : "–") },
    { id: "by", header: "By", from: "lg", cell: (c) => c.by },
    { id: "changed", header: "Changed", from: "md", cell: (c) => <RelativeTime time={c.changedAt} /> },
    {
      id: "cancel", header: "", align: "end",
      cell: (c) => may && c.state === "queued" && (
        <IconButton
          icon={Ban}
          label={`Cancel ${c.method} ${c.path}`}
          busy={cancel.isPending && cancel.variables.command === c.id}
          onClick={() => cancel.mutate({ device, command: c.id }, { onError: (error) => showToast(error.message, { tone: "bad" }) })}
        />
      ),
    },
  ];
  return (
    <div className="flex flex-col gap-1">
      <h3 className="font-medium">{plural(commands.length, "command")}</h3>
      <PlainTable label="Commands to the device" columns={columns} rows={commands} rowKey={(c) => c.id} />
    </div>
  );
}
