import { Archive, CalendarClock, Ellipsis, RotateCcw } from "lucide-react";
import { useState } from "react";
import { Link } from "wouter";
import { asProblem } from "@/api/problem";
import type { SchemaCaller, SchemaVersion } from "@/api/schema.gen";
import { StateBadge } from "@/components/Badge";
import { Button } from "@/components/Button";
import { Skeleton } from "@/components/EmptyState";
import { Menu, MenuItem } from "@/components/Menu";
import { Section } from "@/components/Page";
import { PlainTable, type PlainColumn } from "@/components/PlainTable";
import { ProblemNotice } from "@/components/ProblemNotice";
import { RelativeTime } from "@/components/values";
import { useHref, useRange } from "@/hooks/url";
import { formatFilter } from "@/lib/filter";
import { formatCount, formatShortCount, plural } from "@/lib/format";
import { useMay } from "@/session/session";
import { useCallers, type SeenApi } from "./api";
import { DownloadLink } from "./ApiPage";
import { DeprecateDialog, RetireDialog, useRestoreVersion } from "./VersionDialogs";

/** The versions of an API, newest first, each with who still calls it. */
export function Versions({ seen }: { seen: SeenApi }) {
  const [open, setOpen] = useState<{ what: "deprecate" | "retire"; version: SchemaVersion }>();
  const may = useMay("apis.write") && !seen.api.builtIn;
  const close = () => setOpen(undefined);
  return (
    <div className="flex flex-col gap-4">
      {seen.api.versions.map((version) => (
        <VersionSection
          key={version.version}
          version={version}
          calls={seen.api.traffic.filter((t) => t.version === version.version).reduce((sum, t) => sum + t.exchanges, 0)}
          onDecide={may ? (what) => setOpen({ what, version }) : undefined}
        />
      ))}
      {open?.what === "retire" && <RetireDialog api={seen.api} version={open.version} etag={seen.etag} onClose={close} />}
      {open?.what === "deprecate" && <DeprecateDialog api={seen.api} version={open.version} etag={seen.etag} onClose={close} />}
    </div>
  );
}

function VersionSection({ version, calls, onDecide }: { version: SchemaVersion; calls: number; onDecide: ((what: "deprecate" | "retire") => void) | undefined }) {
  const restore = useRestoreVersion();
  const { api, version: name, state, digest, operations, publishedAt, sunset, successor } = version;
  return (
    <Section
      flush
      title={
        <span className="inline-flex flex-wrap items-center gap-x-3 gap-y-1">
          <span className="tabular">{name}</span>
          <StateBadge state={state} />
          {sunset && <span className="font-normal text-warning">ends <RelativeTime time={sunset} /></span>}
          {successor && <span className="font-normal text-soft">followed by {successor}</span>}
        </span>
      }
      actions={
        <>
          <DownloadLink api={api} version={name} kind={version.kind} short />
          {onDecide && (
            <Menu trigger={<Button kind="quiet" icon={Ellipsis} aria-label={`What can be decided about ${name}`} className="px-2!" />}>
              {state === "active" && <MenuItem icon={CalendarClock} onSelect={() => onDecide("deprecate")}>Deprecate</MenuItem>}
              {state !== "active" && <MenuItem icon={RotateCcw} onSelect={() => restore(version)}>Restore</MenuItem>}
              {(state === "active" || state === "deprecated") && <MenuItem icon={Archive} onSelect={() => onDecide("retire")}>Retire</MenuItem>}
            </Menu>
          )}
        </>
      }
    >
      <p className="flex flex-wrap gap-x-4 gap-y-1 px-3 py-2 text-soft">
        <span>published <RelativeTime time={publishedAt} /></span>
        <span>{plural(operations, "operation")}</span>
        <span>{plural(calls, "call")} in 24 hours</span>
        <span title={digest}>SHA-256 <code>{digest.slice(0, 16)}…</code></span>
      </p>
      <Callers version={version} />
    </Section>
  );
}

function Callers({ version: { api, version } }: { version: SchemaVersion }) {
  const range = useRange();
  const { data, error, refetch } = useCallers(api, version, range.value);
  if (error) return <ProblemNotice problem={asProblem(error)} onRetry={() => void refetch()} />;
  if (!data) return <div className="border-t border-line p-3"><Skeleton className="h-12 w-full" /></div>;
  if (data.length === 0) return <p className="border-t border-line px-3 py-3 text-soft">No device called it in the last {range.label}.</p>;
  return (
    <div className="border-t border-line">
      <PlainTable label={`Who called ${version} in the last ${range.label}`} columns={columns} rows={data.map((c) => ({ ...c, api, version }))} rowKey={(c) => `${c.model ?? ""} ${c.firmware}`} />
    </div>
  );
}

type CallerRow = SchemaCaller & { api: string; version: string };

const columns: readonly PlainColumn<CallerRow>[] = [
  { id: "firmware", header: "Still called by firmware", cell: (c) => (c.firmware ? <span className="tabular">{c.firmware}</span> : <span className="text-quiet">not known</span>) },
  { id: "model", header: "Model", cell: (c) => c.model || <span className="text-quiet">not known</span> },
  { id: "exchanges", header: "Exchanges", align: "end", cell: (c) => <CallerLink caller={c} /> },
  { id: "operations", header: "Operations", align: "end", from: "sm", cell: (c) => formatCount(c.operations) },
  { id: "seen", header: "Last seen", from: "sm", cell: (c) => <RelativeTime time={c.lastSeen} /> },
];

function CallerLink({ caller: { api, version, firmware, model, exchanges } }: { caller: CallerRow }) {
  const href = useHref();
  const filter = formatFilter(Object.entries({ api, version, firmware, model: model ?? "" }).flatMap(([key, value]) => (value ? [{ key, value, negated: false }] : [])));
  return <Link href={href("/traffic", { filter })} title={formatCount(exchanges)} className="hover:underline">{formatShortCount(exchanges)}</Link>;
}
