import { Eye, Trash2 } from "lucide-react";
import { useMemo, useState } from "react";
import { Link } from "wouter";
import { asProblem } from "@/api/problem";
import type { SchemaRetained } from "@/api/schema.gen";
import { CommandButton } from "@/components/Button";
import { CopyableCode } from "@/components/Copy";
import { ConfirmDialog } from "@/components/Dialog";
import { Drawer } from "@/components/Drawer";
import { EmptyRow } from "@/components/EmptyRow";
import { EmptyState } from "@/components/EmptyState";
import { Facts } from "@/components/Facts";
import { Page } from "@/components/Page";
import { ProblemNotice } from "@/components/ProblemNotice";
import { Table, type Column } from "@/components/Table";
import { showToast } from "@/components/toasts";
import { Bytes, Expiry, RelativeTime } from "@/components/values";
import { useCommands, type Command } from "@/hooks/commands";
import { useDrawer } from "@/hooks/drawer";
import { useHereHref, useHref, useUrlParam } from "@/hooks/url";
import { useMay, useSession } from "@/session/session";
import { useDeleteRetained, useRetained, useRetainedMessage } from "./api";
import { MessageBody } from "./MessageBody";
import { TopicFilterBar } from "./TopicFilterBar";
import { Missing, Views } from "./Views";

const None = () => <span className="text-quiet">–</span>;

const columns: readonly Column<SchemaRetained>[] = [
  { id: "topic", header: "Topic", width: "minmax(140px, 3fr)", cell: (r) => <span className="font-mono text-xs">{r.topic}</span> },
  { id: "bytes", header: "Size", width: "80px", align: "end", cell: (r) => <Bytes bytes={r.bytes} /> },
  { id: "qos", header: "QoS", width: "48px", align: "end", from: 640, cell: (r) => r.qos },
  { id: "published", header: "Published", width: "112px", from: 420, cell: (r) => (r.publishedAt ? <RelativeTime time={r.publishedAt} /> : <None />) },
  { id: "by", header: "By", width: "minmax(100px, 1fr)", from: 720, cell: (r) => (r.principal ? <span className="font-mono text-xs">{r.principal}</span> : <None />) },
  { id: "expires", header: "Expires", width: "112px", from: 900, cell: (r) => (r.expiresAt ? <Expiry time={r.expiresAt} /> : <span className="text-quiet">never</span>) },
];

/** Retained messages, without what they carry until somebody looks at one. */
export default function RetainedPage() {
  const [topic, setTopic] = useUrlParam("topic");
  const { retained, missing } = useRetained(topic);
  const keys = useMemo(() => retained.rows.map((r) => r.topic), [retained.rows]);
  const drawer = useDrawer(keys);
  const here = useHereHref();
  const href = useHref();
  const open = retained.rows.find((r) => r.topic === drawer.open);
  return (
    <Page
      title="Retained messages"
      fill
      sentence="What subscribers get first: the newest retained message of each topic."
      drawer={
        open && (
          <Drawer title={<span className="font-mono">{open.topic}</span>} onClose={drawer.close} onNext={drawer.next} onPrevious={drawer.previous}>
            <RetainedDetail key={open.topic} message={open} onDeleted={drawer.close} />
          </Drawer>
        )
      }
    >
      <Views here="/mqtt/retained" />
      <Missing nodes={missing} />
      <TopicFilterBar text={topic} onChange={setTopic} action="Show" />
      <Table
        label="Retained messages"
        columns={columns}
        pages={retained}
        rowKey={(r) => r.topic}
        rowHref={(r) => here({ open: r.topic })}
        open={drawer.open}
        empty={
          <EmptyRow>{topic ? (
            <EmptyState title="No retained message fits.">
              <p className="text-soft">Loosen the topic filter, or <Link href={href("/mqtt/retained")} className="link">show all of them</Link>.</p>
            </EmptyState>
          ) : (
            <EmptyState title="There is no retained message.">
              <p className="text-soft">A message that is published to be retained is kept for those who subscribe later, where the contract allows it:</p>
              <CopyableCode label="Command that publishes a retained message" text={`fieldgate mqtt pub plant/hall-1/state '{"state": "on"}' --retain --token-file device.token`} />
            </EmptyState>
          )}</EmptyRow>
        }
      />
    </Page>
  );
}

function RetainedDetail({ message: r, onDeleted }: { message: SchemaRetained; onDeleted: () => void }) {
  const look = useRetainedMessage();
  const remove = useDeleteRetained();
  const [asking, setAsking] = useState(false);
  const may = useMay("devices.write");
  const { role } = useSession();
  const commands: Command[] = [
    { id: "show-payload", group: "Do", label: "Show payload", icon: Eye, keys: "p", refused: may ? undefined : `The role ${role} may not look at payloads; ask an operator or owner.`, run: () => look.mutate(r.topic) },
    { id: "delete-retained", group: "Do", label: "Delete", icon: Trash2, refused: may ? undefined : `The role ${role} may not delete retained messages; ask an operator or owner.`, run: () => setAsking(true) },
  ];
  useCommands(commands.map((command) => ({ ...command, label: `${command.label} (${r.topic})` })));
  return (
    <div className="flex flex-col gap-4">
      <div className="flex flex-wrap gap-2">{commands.map((command) => <CommandButton key={command.id} command={command} />)}</div>
      <Facts
        facts={[
          ["Size", <Bytes bytes={r.bytes} />],
          ["Type", r.contentType && <code>{r.contentType}</code>],
          ["QoS", r.qos],
          ["Published", r.publishedAt && <RelativeTime time={r.publishedAt} />],
          ["By", r.principal && <code>{r.principal}</code>],
          ["Client", r.client && <code>{r.client}</code>],
          ["Expires", r.expiresAt ? <Expiry time={r.expiresAt} /> : "never"],
          ["Gateways", <code>{r.nodes.join(", ")}</code>],
        ]}
      />
      {look.error && <ProblemNotice problem={asProblem(look.error)} />}
      {look.data ? <MessageBody content={look.data.content} label={`Payload of ${r.topic}`} /> : <p className="text-xs text-quiet">What it carries is shown when you ask for it: that you looked stands in the audit log.</p>}
      {asking && (
        <ConfirmDialog
          open
          onClose={() => setAsking(false)}
          title={`Delete the retained message of ${r.topic}`}
          consequence="This cannot be undone. Who subscribes from now on gets none; present subscribers hear an empty message, as if a publisher had deleted it."
          action="Delete"
          busy={remove.isPending}
          problem={remove.error ? asProblem(remove.error) : undefined}
          onConfirm={() =>
            remove.mutate(r.topic, {
              onSuccess: ({ missing }) => {
                onDeleted();
                showToast(`${r.topic} has no retained message any more${missing.length > 0 ? `; ${missing.join(", ")} did not answer` : ""}`, { tone: missing.length > 0 ? "neutral" : "good" });
              },
            })
          }
        />
      )}
    </div>
  );
}
