import { Archive, ArrowLeft, CalendarClock, Download, RotateCcw } from "lucide-react";
import { lazy, Suspense, useState } from "react";
import { Link, useParams } from "wouter";
import { asProblem } from "@/api/problem";
import type { SchemaApiDetail, SchemaVersion } from "@/api/schema.gen";
import { Badge, ProtocolBadge, protocols, StateBadge } from "@/components/Badge";
import { Button, CommandButton } from "@/components/Button";
import { EmptyState, Skeleton } from "@/components/EmptyState";
import { Page } from "@/components/Page";
import { ProblemNotice } from "@/components/ProblemNotice";
import { Tabs } from "@/components/Tabs";
import { RelativeTime } from "@/components/values";
import { useCommands, type Command } from "@/hooks/commands";
import { useHref, useUrlParam } from "@/hooks/url";
import { formatCount, plural } from "@/lib/format";
import { useMay, useSession } from "@/session/session";
import { useApi, useFindings, useReference, type SeenApi } from "./api";
import { useOpenPublish, usePublishCommand } from "./ApisPage";
import { Dropzone } from "./Dropzone";
import { Findings } from "./Findings";
import { History } from "./History";
import { Operations } from "./Operations";
import { total } from "./plan";
import { DeprecateDialog, RetireDialog, useRestoreVersion } from "./VersionDialogs";
import { Versions } from "./Versions";

const Reference = lazy(() => import("@/components/reference/Reference"));

/** One API: how it is called over each protocol, what its contract says, its versions and what was found. */
export default function ApiPage() {
  const { api = "" } = useParams<{ api: string }>();
  const { data: seen, error, refetch } = useApi(api);
  const publish = usePublishCommand();
  const onFile = useOpenPublish();
  const missing = error && asProblem(error).status === 404;
  return (
    <Dropzone onFile={onFile} refused={publish.refused}>
      <Page title={`API ${api}`} sentence={seen ? <ApiSentence api={seen.api} /> : missing ? `There is no API ${api}.` : <Skeleton className="my-1.5 h-3 w-96 max-w-full" />} actions={seen && <ApiActions seen={seen} publish={publish} />}>
        {missing ? (
          <EmptyState title="No contract of this name is published.">
            <p className="text-soft">It may never have been, or its name is different. <Link href="/apis" className="link">Show all APIs</Link>.</p>
          </EmptyState>
        ) : (
          error && !seen && <ProblemNotice problem={asProblem(error)} onRetry={() => void refetch()} />
        )}
        {!seen && !error && <PageSkeleton />}
        {seen && <ApiTabs seen={seen} />}
      </Page>
    </Dropzone>
  );
}

/** The version that is in force, or the newest where none is. */
export function currentVersion({ versions }: SchemaApiDetail): SchemaVersion {
  return versions.find((v) => v.state === "active") ?? versions.find((v) => v.state === "deprecated") ?? versions[0]!;
}

/** "thermo 2.4.0 is active. 9,431 calls of 24 hours, 412 of them refused and 13 failed." */
function ApiSentence({ api }: { api: SchemaApiDetail }) {
  const href = useHref();
  const { version, state, sunset, successor } = currentVersion(api);
  const [exchanges, refused, failed] = [total(api.traffic, "exchanges"), total(api.traffic, "refused"), total(api.traffic, "failed")];
  const traffic = (filter: string, text: string) => <Link href={href("/traffic", { filter: `api:${api.name}${filter}` })} className="link">{text}</Link>;
  return (
    <>
      <span className="font-semibold">{api.name}</span> {version} is {state}
      {sunset && <>, until <RelativeTime time={sunset} /></>}
      {successor && <>; {successor} follows it</>}.{" "}
      {api.kind === "pass-through" && "It lets everything through unchecked. "}
      {api.builtIn ? "It is Fieldgate's own API, which this console uses." : exchanges === 0 ? "Nobody called it in 24 hours." : (
        <>
          {traffic("", plural(exchanges, "call"))} in 24 hours
          {refused > 0 && <>, {traffic(" status:denied", `${formatCount(refused)} refused`)}</>}
          {failed > 0 && <>, {traffic(" status:failed", `${formatCount(failed)} failed`)}</>}.
        </>
      )}
    </>
  );
}

function ApiActions({ seen, publish }: { seen: SeenApi; publish: Command }) {
  const { api } = seen;
  const version = currentVersion(api);
  const [open, setOpen] = useState<"deprecate" | "retire">();
  const may = useMay("apis.write");
  const { role } = useSession();
  const href = useHref();
  const restore = useRestoreVersion();
  const close = () => setOpen(undefined);
  const refused = api.builtIn ? "It is served by Fieldgate itself." : may ? undefined : `The role ${role} may not change APIs; ask a developer, operator or owner.`;
  const served = version.state === "active" || version.state === "deprecated";
  const commands: Command[] = [
    ...(version.state === "active" ? [{ id: "deprecate", group: "Do" as const, label: "Deprecate", icon: CalendarClock, refused, run: () => setOpen("deprecate") }] : []),
    ...(version.state === "active" ? [] : [{ id: "restore", group: "Do" as const, label: "Restore", icon: RotateCcw, refused, run: () => restore(version) }]),
    ...(served ? [{ id: "retire", group: "Do" as const, label: "Retire", icon: Archive, refused, run: () => setOpen("retire") }] : []),
  ];
  useCommands([publish, ...commands.map((c) => ({ ...c, label: `${c.label} ${api.name} ${version.version}` }))]);
  return (
    <>
      <Link href={href("/apis")} className="link inline-flex h-8 items-center gap-1.5 px-1"><ArrowLeft size={16} aria-hidden /> All APIs</Link>
      {!api.builtIn && commands.map((command) => <CommandButton key={command.id} command={command} />)}
      {!api.builtIn && <CommandButton command={publish}>Publish a version</CommandButton>}
      {open === "retire" && <RetireDialog api={api} version={version} etag={seen.etag} onClose={close} />}
      {open === "deprecate" && <DeprecateDialog api={api} version={version} etag={seen.etag} onClose={close} />}
    </>
  );
}

function ApiTabs({ seen }: { seen: SeenApi }) {
  const { api } = seen;
  const findings = useFindings(api.name);
  const version = currentVersion(api);
  return (
    <>
      <div className="flex flex-wrap items-center gap-x-4 gap-y-1.5 text-soft">
        <span className="font-medium text-text">{api.title}</span>
        <StateBadge state={version.state} />
        {api.builtIn && <Badge icon={false}>built in</Badge>}
        {api.kind === "pass-through" && <Badge tone="warning">unchecked</Badge>}
        <span className="inline-flex flex-wrap gap-2.5">{protocols.filter((p) => api.protocols.includes(p)).map((p) => <ProtocolBadge key={p} protocol={p} />)}</span>
        <span>{api.kind === "openapi" ? "OpenAPI" : api.kind === "asyncapi" ? "AsyncAPI" : "Pass-through"}</span>
        {api.owner ? <span>owner {api.owner}</span> : <span className="text-quiet">its contract names no owner</span>}
      </div>
      <Tabs
        label={`About ${api.name}`}
        tabs={[
          { value: "operations", label: "Operations", content: <Operations api={api} /> },
          { value: "reference", label: "Reference", content: <ReferenceTab api={api} /> },
          { value: "versions", label: `Versions ${api.versions.length}`, content: <Versions seen={seen} /> },
          { value: "findings", label: `Findings ${findings.rows.length > 0 ? `${findings.rows.length}${findings.hasMore ? "+" : ""}` : ""}`, content: <Findings api={api.name} /> },
          { value: "history", label: "History", content: <History api={api.name} /> },
        ]}
      />
    </>
  );
}

function ReferenceTab({ api }: { api: SchemaApiDetail }) {
  const [asked, setAsked] = useUrlParam("version");
  const version = api.versions.some((v) => v.version === asked) ? asked : currentVersion(api).version;
  const { data, error, refetch } = useReference(api.name, version);
  return (
    <div className="flex flex-col gap-4">
      <div className="flex flex-wrap items-center gap-2">
        {api.versions.length > 1 && (
          <div role="group" aria-label="Version" className="flex flex-wrap gap-1">
            {api.versions.slice(0, 8).map((v) => (
              <Button key={v.version} kind={v.version === version ? "secondary" : "quiet"} aria-pressed={v.version === version} onClick={() => setAsked(v.version)}>{v.version}</Button>
            ))}
          </div>
        )}
        <span className="flex-1" />
        <DownloadLink api={api.name} version={version} kind={api.kind} />
      </div>
      {error && <ProblemNotice problem={asProblem(error)} onRetry={() => void refetch()} />}
      {!data && !error && <PageSkeleton />}
      {data && (
        <Suspense fallback={<PageSkeleton />}>
          <Reference document={data} />
        </Suspense>
      )}
    </div>
  );
}

/** The document as it was published. */
export function DownloadLink({ api, version, kind, short }: { api: string; version: string; kind: SchemaVersion["kind"]; short?: boolean }) {
  const address = `/api/v1/apis/${encodeURIComponent(api)}/versions/${encodeURIComponent(version)}/document`;
  return (
    <a href={address} download={`${api}-${version}.${kind === "pass-through" ? "yaml" : `${kind}.yaml`}`} aria-label={`Download the document of ${api} ${version}`} className="link inline-flex min-h-6 items-center gap-1.5">
      <Download size={16} aria-hidden /> {!short && "Download the document"}
    </a>
  );
}

export function PageSkeleton() {
  return (
    <div className="flex h-80 flex-col gap-4">
      <Skeleton className="h-8 w-80 max-w-full" />
      <Skeleton className="h-4 w-2/3" />
      <Skeleton className="h-4 w-1/2" />
      <Skeleton className="h-4 w-3/5" />
    </div>
  );
}
