import { ArrowRight } from "lucide-react";
import { Link } from "wouter";
import type { SchemaAuditEntry } from "@/api/schema.gen";
import type { KeysetPages } from "@/hooks/keyset";
import { useHref } from "@/hooks/url";
import { auditChanges, decisionVerb, shortDigests, targetPath, type AuditChange } from "@/lib/audit";
import { Button } from "./Button";
import { Skeleton } from "./EmptyState";
import { ProblemNotice } from "./ProblemNotice";
import { RelativeTime } from "./values";

/** Decisions, newest first: who, what, about what, and what it changed. */
export function AuditList({ pages, rows = pages.rows, none }: { pages: KeysetPages<SchemaAuditEntry>; rows?: readonly SchemaAuditEntry[]; none: string }) {
  if (pages.problem && pages.rows.length === 0) return <ProblemNotice problem={pages.problem} onRetry={pages.retry} />;
  if (pages.loading) {
    return (
      <div className="flex h-40 flex-col gap-4 rounded border border-line bg-surface p-3">
        <Skeleton className="h-3 w-2/3" />
        <Skeleton className="h-3 w-1/2" />
        <Skeleton className="h-3 w-3/5" />
      </div>
    );
  }
  return (
    <div className={`rounded border border-line bg-surface ${pages.stale ? "opacity-60" : ""}`}>
      {rows.length === 0 && !pages.hasMore && <p className="px-3 py-6 text-soft">{none}</p>}
      <ol>{rows.map((entry) => <Entry key={entry.id} entry={entry} />)}</ol>
      {pages.hasMore && (
        <div className="border-t border-line p-1.5 first:border-t-0">
          <Button kind="quiet" className="w-full" onClick={pages.loadMore}>Show earlier decisions</Button>
        </div>
      )}
      {pages.problem && <div className="border-t border-line p-2"><ProblemNotice problem={pages.problem} onRetry={pages.retry} /></div>}
    </div>
  );
}

const vias: Record<string, string> = { session: "", token: "with an API token", local: "with the local token" };

function Entry({ entry }: { entry: SchemaAuditEntry }) {
  const href = useHref();
  const path = targetPath(entry.action, entry.target);
  const changes = auditChanges(entry.before, entry.after);
  const via = entry.via === entry.detail ? "" : (vias[entry.via ?? ""] ?? entry.via);
  const noun = entry.action.slice(0, entry.action.indexOf("."));
  return (
    <li className="grid gap-x-4 gap-y-0.5 border-t border-line px-3 py-2 first:border-t-0 md:grid-cols-[96px_minmax(0,1fr)]">
      <span className="text-quiet"><RelativeTime time={entry.time} /></span>
      <div className="min-w-0">
        <p>
          <span className="font-medium">{entry.actor}</span> <span className="text-soft">{decisionVerb(entry.action)}</span> <span className="text-quiet">{noun === "api" ? "API" : noun}</span>{" "}
          {path ? <Link href={href(path)} className="link break-all">{entry.target}</Link> : <span className="break-all">{entry.target}</span>}
        </p>
        {changes.length > 0 && (
          <ul className="flex flex-wrap gap-x-4 gap-y-0.5 py-0.5 text-xs">
            {changes.map((change) => <Change key={change.field} change={change} />)}
          </ul>
        )}
        <p className="text-xs break-words text-quiet">
          {[entry.detail && shortDigests(entry.detail), [via, entry.source && `from ${entry.source}`].filter(Boolean).join(" ")].filter(Boolean).join(" · ")}
        </p>
      </div>
    </li>
  );
}

function Change({ change: { field, before, after } }: { change: AuditChange }) {
  return (
    <li className="flex min-w-0 flex-wrap items-center gap-x-1.5">
      <span className="text-quiet">{field}</span>
      {before !== undefined && <del className="break-all text-quiet line-through"><span className="sr-only">was </span><code>{before}</code></del>}
      {before !== undefined && after !== undefined && <ArrowRight size={12} className="text-icon" aria-hidden />}
      {after !== undefined && <ins className="rounded-sm bg-sunken px-1 break-all no-underline"><span className="sr-only">is now </span><code>{after}</code></ins>}
    </li>
  );
}
