import { FileUp } from "lucide-react";
import { useCallback } from "react";
import { Link, useLocation } from "wouter";
import type { SchemaApi, SchemaProtocol } from "@/api/schema.gen";
import { Badge, protocolNames, protocols, StateBadge } from "@/components/Badge";
import { CommandButton } from "@/components/Button";
import { CopyableCode } from "@/components/Copy";
import { EmptyState, Skeleton } from "@/components/EmptyState";
import { FilterBar } from "@/components/FilterBar";
import { Page } from "@/components/Page";
import { Sparkline } from "@/components/Sparkline";
import { Table, type Column } from "@/components/Table";
import { useCommands, type Command } from "@/hooks/commands";
import { useFilter, useHref } from "@/hooks/url";
import type { FilterField } from "@/lib/filter";
import { formatCount, formatShortCount, plural } from "@/lib/format";
import { useMay, useSession } from "@/session/session";
import { apiHref, useApis, useUndocumented } from "./api";
import { Dropzone } from "./Dropzone";
import { handOver, handOverFile } from "./handover";
import { Undocumented } from "./Undocumented";

const columns: readonly Column<SchemaApi>[] = [
  {
    id: "name", header: "API", width: "minmax(116px, 190px)", sort: (a) => a.name,
    cell: (a) => (
      <span className="inline-flex items-center gap-2">
        <span className="font-medium">{a.name}</span>
        {a.builtIn && <Badge icon={false}>built in</Badge>}
        {a.kind === "pass-through" && <Badge tone="warning">unchecked</Badge>}
      </span>
    ),
  },
  {
    id: "version", header: "Version", width: "64px", from: 430,
    cell: (a) => <span className="tabular" title={a.versions > 1 ? `${a.versions} versions are known` : undefined}>{a.version}{a.versions > 1 && <span className="text-quiet"> +{a.versions - 1}</span>}</span>,
  },
  { id: "title", header: "Title", width: "minmax(100px, 1fr)", from: 860, cell: (a) => a.title, sort: (a) => a.title },
  { id: "owner", header: "Owner", width: "minmax(96px, 0.8fr)", from: 1290, cell: (a) => a.owner || <span className="text-quiet">nobody named</span>, sort: (a) => a.owner ?? "" },
  { id: "state", header: "Lifecycle", width: "96px", from: 560, cell: (a) => <StateBadge state={a.state} />, sort: (a) => a.state },
  {
    id: "protocols", header: "Protocols", width: "196px", from: 1040, cell: (a) => <Protocols api={a} />,
  },
  { id: "operations", header: "Operations", width: "72px", align: "end", from: 760, cell: (a) => formatCount(a.operations), sort: (a) => a.operations },
  {
    id: "calls", header: "Calls in 24 hours", width: "148px", align: "end", sort: (a) => a.traffic.exchanges,
    cell: ({ name, traffic }) => (
      <span className="flex items-center justify-end gap-2">
        <Sparkline className="h-5 w-20" points={24} label={`Calls of ${name} in each of the last 24 hours`} series={[{ colour: "accent", values: traffic.hours }]} />
        <Counted count={traffic.exchanges} filter={`api:${name}`} />
      </span>
    ),
  },
  {
    id: "refused", header: "Refused", width: "60px", align: "end", from: 640, sort: (a) => a.traffic.refused,
    cell: ({ name, traffic }) => <Counted count={traffic.refused} filter={`api:${name} status:denied`} />,
  },
  {
    id: "failed", header: "Failed", width: "52px", align: "end", from: 700, sort: (a) => a.traffic.failed,
    cell: ({ name, traffic }) => <Counted count={traffic.failed} filter={`api:${name} status:failed`} bad />,
  },
  { id: "devices", header: "Devices", width: "58px", align: "end", from: 820, sort: (a) => a.traffic.devices, cell: ({ traffic }) => formatShortCount(traffic.devices) },
];

// Five names fit where five badges do not. Tailwind finds only whole names.
const protocolText: Record<SchemaProtocol, string> = { http: "text-http", websocket: "text-websocket", sse: "text-sse", mqtt: "text-mqtt", coap: "text-coap" };

function Protocols({ api }: { api: SchemaApi }) {
  return (
    <span className="inline-flex gap-2 text-xs font-medium">
      {protocols.filter((p) => api.protocols.includes(p)).map((p) => (
        <span key={p} className={protocolText[p]} title={protocolNames[p]}>{p === "websocket" ? "WS" : protocolNames[p]}</span>
      ))}
    </span>
  );
}

function Counted({ count, filter, bad }: { count: number; filter: string; bad?: boolean }) {
  const href = useHref();
  if (count === 0) return <span className="text-quiet">0</span>;
  return (
    <Link href={href("/traffic", { filter })} title={formatCount(count)} className={`relative z-10 min-w-12 hover:underline ${bad ? "text-bad" : ""}`}>
      {formatShortCount(count)}
    </Link>
  );
}

const fields: readonly FilterField[] = [
  { key: "state", help: "its lifecycle", values: ["active", "deprecated", "retired", "superseded"] },
  { key: "kind", help: "of its contract", values: ["openapi", "asyncapi", "pass-through"] },
  { key: "protocol", help: "by which it can be called", values: protocols },
  { key: "owner", help: "the contact that the contract names" },
];

/** APIs: what is published, what calls it, and what no contract explains. */
export default function ApisPage() {
  const { text, setText } = useFilter();
  const apis = useApis(text);
  const href = useHref();
  const publish = usePublishCommand();
  const onFile = useOpenPublish();
  useCommands([publish]);
  const long = apis.hasMore || apis.rows.length > 100; // then the table scrolls within the page
  return (
    <Dropzone onFile={onFile} refused={publish.refused}>
      <Page title="APIs" fill={long} sentence={<ApisSentence />} actions={<CommandButton command={publish} kind="primary" />}>
        <FilterBar fields={fields} text={text} onChange={setText} placeholder="Filter: state:active protocol:mqtt, or a name" />
        <div className={long ? "flex min-h-0 flex-1 flex-col" : "border-b border-line"}>
          <Table
            label="APIs"
            columns={columns}
            pages={apis}
            rowKey={(a) => a.name}
            rowHref={(a) => href(apiHref(a.name))}
            empty={<NoApis filtered={text !== ""} publish={publish} />}
          />
        </div>
        <Undocumented />
      </Page>
    </Dropzone>
  );
}

/** Publishing, as a command of each page about APIs. */
export function usePublishCommand(): Command {
  const may = useMay("apis.write");
  const { role } = useSession();
  const href = useHref();
  const [, navigate] = useLocation();
  return {
    id: "publish", group: "Do", label: "Publish a contract", icon: FileUp, keys: "n", words: "openapi asyncapi upload api",
    refused: may ? undefined : `The role ${role} may not publish; ask a developer, operator or owner.`,
    run: () => {
      handOver(undefined);
      navigate(href("/apis/publish"));
    },
  };
}

/** Opens the page that publishes, with a file. */
export function useOpenPublish() {
  const href = useHref();
  const [, navigate] = useLocation();
  return useCallback(
    (file: File) => {
      void handOverFile(file).then(() => navigate(href("/apis/publish")));
    },
    [href, navigate],
  );
}

/** "4 APIs with 13 operations. Traffic of 6 routes is explained by no contract." */
function ApisSentence() {
  const apis = useApis("");
  const undocumented = useUndocumented();
  const href = useHref();
  if (apis.loading || undocumented.isPending) return <Skeleton className="my-1.5 h-3 w-80 max-w-full" />;
  const own = apis.rows.filter((a) => !a.builtIn);
  const operations = own.reduce((sum, a) => sum + a.operations, 0);
  const unchecked = own.filter((a) => a.kind === "pass-through" && a.state === "active").length;
  const routes = undocumented.data?.items.length ?? 0;
  return (
    <>
      {own.length === 0 ? "No contract is published yet." : (
        <>
          <Link href={href("/apis")} className="link">{plural(own.length, "API")}{apis.hasMore && "+"}</Link> with {plural(operations, "operation")}.
        </>
      )}{" "}
      {unchecked > 0 && (
        <>
          <Link href={href("/apis", { filter: "kind:pass-through" })} className="link">{unchecked === 1 ? "One lets" : `${formatCount(unchecked)} let`}</Link> everything through unchecked.{" "}
        </>
      )}
      {routes > 0 ? (
        <>
          Traffic of <a href="#undocumented" className="link">{plural(routes, "route")}{undocumented.data?.next && "+"}</a> is explained by no contract.
        </>
      ) : (
        !undocumented.error && own.length > 0 && "Every exchange of the last 24 hours is explained by a contract."
      )}
    </>
  );
}

function NoApis({ filtered, publish }: { filtered: boolean; publish: Command }) {
  const href = useHref();
  if (filtered) {
    return (
      <EmptyState title="No API fits.">
        <p className="text-soft">
          Loosen the filter, or <Link href={href("/apis")} className="link">show all APIs</Link>.
        </p>
      </EmptyState>
    );
  }
  return (
    <EmptyState title="No contract is published yet.">
      <p className="text-soft">
        The contract is the configuration: an OpenAPI or AsyncAPI document says what may be called, by whom and how. Drop one anywhere on this page; you
        see what it would change before anything is published.
      </p>
      <CopyableCode label="Command that publishes a contract" text="fieldgate api publish my-api.openapi.yaml" />
      <CommandButton command={publish} kind="primary" />
    </EmptyState>
  );
}
