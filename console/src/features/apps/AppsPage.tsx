import { useQuery } from "@tanstack/react-query";
import { Plus } from "lucide-react";
import { lazy, Suspense, useMemo, useState } from "react";
import { Link } from "wouter";
import { read } from "@/api/client";
import type { SchemaApp } from "@/api/schema.gen";
import { ProtocolBadge, StateBadge } from "@/components/Badge";
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
import { useFilter, useHereHref, useHref } from "@/hooks/url";
import type { FilterField } from "@/lib/filter";
import { formatCount, formatShortCount } from "@/lib/format";
import { problemWords } from "@/lib/words";
import { useMay, useSession } from "@/session/session";
import { useApps } from "./api";
import { AppDetail } from "./AppDetail";

const AddApp = lazy(() => import("./AddApp"));

const fields: readonly FilterField[] = [
  { key: "state", help: "what was decided about it", values: ["active", "revoked"] },
  { key: "scope", help: "that it has, such as telemetry.read" },
  { key: "id", help: "such as dash*" },
];

const columns: readonly Column<SchemaApp>[] = [
  { id: "id", header: "App", width: "minmax(120px, 1.2fr)", cell: (a) => <span className="font-mono text-xs">{a.id}</span> },
  { id: "state", header: "State", width: "96px", cell: (a) => <StateBadge state={a.state} /> },
  { id: "name", header: "Name", width: "minmax(110px, 1.2fr)", from: 560, cell: (a) => a.name || <None /> },
  { id: "scopes", header: "Scopes", width: "minmax(140px, 2fr)", from: 720, cell: (a) => (a.scopes.length > 0 ? <code title={a.scopes.join(" ")}>{a.scopes.join(" ")}</code> : <span className="text-quiet">none</span>) },
  { id: "keys", header: "Keys", width: "56px", align: "end", from: 480, cell: (a) => a.keys },
  { id: "protocol", header: "Protocol", width: "96px", from: 1000, cell: (a) => (a.presence ? <ProtocolBadge protocol={a.presence.protocol} /> : <None />) },
  { id: "seen", header: "Last seen", width: "100px", from: 340, cell: (a) => (a.presence ? <RelativeTime time={a.presence.seenAt} /> : <span className="text-quiet">never</span>) },
  { id: "exchanges", header: "Exchanges today", width: "112px", align: "end", from: 860, cell: (a) => <Today app={a} count={a.presence?.exchangesToday} filter="" /> },
  { id: "refused", header: "Refused today", width: "100px", align: "end", from: 640, cell: (a) => <Today app={a} count={a.presence?.refusedToday} filter=" status:denied" /> },
  {
    id: "why", header: "Last refusal", width: "minmax(220px, 2fr)", from: 1100,
    cell: (a) => (a.presence?.problem && a.presence.refusedAt ? <>{problemWords(a.presence.problem).title}, <span className="text-quiet"><RelativeTime time={a.presence.refusedAt} /></span></> : <None />),
  },
];

const None = () => <span className="text-quiet">–</span>;

function Today({ app, count, filter }: { app: SchemaApp; count: number | undefined; filter: string }) {
  const href = useHref();
  if (!count) return <span className="text-quiet">{count ?? "–"}</span>;
  return (
    <Link href={href("/traffic", { filter: `app:${app.id}${filter}` })} className="relative z-10 hover:underline" title={formatCount(count)}>
      {formatShortCount(count)}
    </Link>
  );
}

/** Apps: the programs that use the same contracts as the devices, with scopes of their own. */
export default function AppsPage() {
  const { text, setText } = useFilter();
  const apps = useApps(text);
  const keys = useMemo(() => apps.rows.map((a) => a.id), [apps.rows]);
  const drawer = useDrawer(keys, (id) => `/apps/${encodeURIComponent(id)}`);
  const here = useHereHref();
  const href = useHref();
  const may = useMay("apps.write");
  const { role } = useSession();
  const [adding, setAdding] = useState(false);
  const add: Command = {
    id: "add-app", group: "Do", label: "Add an app", icon: Plus, keys: "n",
    refused: may ? undefined : `The role ${role} may not add apps; ask a developer, operator or owner.`,
    run: () => setAdding(true),
  };
  useCommands([add]);
  return (
    <Page
      title="Apps"
      fill
      sentence={<AppsSentence />}
      actions={<CommandButton command={add} kind="primary" />}
      drawer={
        drawer.open && (
          <Drawer
            title={<span className="font-mono">{drawer.open}</span>}
            page={href(`/apps/${encodeURIComponent(drawer.open)}`)}
            onClose={drawer.close}
            onNext={drawer.next}
            onPrevious={drawer.previous}
          >
            <AppDetail key={drawer.open} id={drawer.open} />
          </Drawer>
        )
      }
    >
      <FilterBar fields={fields} text={text} onChange={setText} placeholder="Filter: scope:telemetry.read, or the beginning of an id" />
      <Table
        label="Apps"
        columns={columns}
        pages={apps}
        rowKey={(a) => a.id}
        rowHref={(a) => here({ open: a.id })}
        open={drawer.open}
        empty={
          <EmptyRow>{text ? (
            <EmptyState title="No app fits.">
              <p className="text-soft">Loosen the filter, or <Link href={href("/apps")} className="link">show all apps</Link>.</p>
            </EmptyState>
          ) : (
            <EmptyState title="No app yet.">
              <p className="text-soft">An app is a program that calls operations or subscribes, such as a dashboard. It has a key of its own, and may do what its scopes say and no more.</p>
              <CommandButton command={add} kind="primary" />
            </EmptyState>
          )}</EmptyRow>
        }
      />
      <Suspense>{adding && <AddApp onClose={() => setAdding(false)} />}</Suspense>
    </Page>
  );
}

/** "3 apps. 1 has no valid key and cannot say who it is." */
function AppsSentence() {
  const href = useHref();
  const { data } = useQuery({ queryKey: ["apps", "count"], queryFn: ({ signal }) => read("/api/v1/apps", { query: { limit: 1000 }, signal }) });
  if (!data) return <Skeleton className="my-1.5 h-3 w-64 max-w-full" />;
  const active = data.items.filter((a) => a.state === "active");
  const keyless = active.filter((a) => a.keys === 0);
  const refused = active.filter((a) => (a.presence?.refusedToday ?? 0) > 0);
  if (data.items.length === 0) return "No app is registered yet.";
  return (
    <>
      <Link href={href("/apps", { filter: "state:active" })} className="link">{formatCount(active.length)}{data.next && "+"} {active.length === 1 ? "app" : "apps"}</Link>.{" "}
      {keyless.length > 0 && (
        <>
          <Link href={href("/apps", { filter: `id:${keyless.map((a) => a.id).slice(0, 20).join(",")}` })} className="link">{formatCount(keyless.length)}</Link>{" "}
          {keyless.length === 1 ? "has" : "have"} no valid key.{" "}
        </>
      )}
      {refused.length === 0 ? "None was refused anything today." : (
        <>
          <Link href={href("/apps", { filter: `id:${refused.map((a) => a.id).slice(0, 20).join(",")}` })} className="link">{formatCount(refused.length)}</Link>{" "}
          {refused.length === 1 ? "was" : "were"} refused something today.
        </>
      )}
    </>
  );
}
