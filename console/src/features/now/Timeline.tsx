import { Boxes, Cpu, FileCog, Search, UserRound, type LucideIcon } from "lucide-react";
import { Link } from "wouter";
import type { SchemaTimelineEntry } from "@/api/schema.gen";
import { Button } from "@/components/Button";
import { Skeleton } from "@/components/EmptyState";
import { Section } from "@/components/Page";
import { ProblemNotice } from "@/components/ProblemNotice";
import { RelativeTime } from "@/components/values";
import { useHref, useRange } from "@/hooks/url";
import { useTimeline } from "./api";
import { entryAddress } from "./filters";

const icons: Record<SchemaTimelineEntry["kind"], LucideIcon> = { decision: UserRound, model: Boxes, firmware: Cpu, finding: Search };

/** What changed: decisions, new models and firmware, new findings. */
export function Timeline() {
  const range = useRange();
  const { rows, loading, problem, hasMore, loadMore, retry } = useTimeline(range.value);
  return (
    <Section title={`What changed in the last ${range.label}`} flush>
      {problem && <ProblemNotice problem={problem} onRetry={retry} />}
      {loading && (
        <div className="flex h-40 flex-col gap-4 p-3">
          <Skeleton className="h-3 w-3/4" />
          <Skeleton className="h-3 w-1/2" />
          <Skeleton className="h-3 w-2/3" />
        </div>
      )}
      {!loading && rows.length === 0 && !problem && (
        <p className="px-3 py-6 text-soft">Nothing was decided, and nothing new was seen.</p>
      )}
      <ol>
        {rows.map((entry, i) => (
          <Entry key={`${entry.time} ${entry.text} ${i}`} entry={entry} />
        ))}
      </ol>
      {hasMore && (
        <div className="border-t border-line p-1.5">
          <Button kind="quiet" className="w-full" onClick={loadMore}>
            Show earlier changes
          </Button>
        </div>
      )}
    </Section>
  );
}

function Entry({ entry }: { entry: SchemaTimelineEntry }) {
  const href = useHref();
  const Icon = entry.kind === "decision" && entry.action?.startsWith("api.") ? FileCog : icons[entry.kind];
  const address = entryAddress(entry);
  return (
    <li className="relative flex gap-2.5 border-t border-line px-3 py-2 first:border-t-0 has-[a]:hover:bg-hover">
      <Icon size={16} className="mt-0.5 shrink-0 text-icon" aria-hidden />
      <div className="min-w-0 flex-1">
        {address ? (
          <Link href={href(...address)} className="outline-none after:absolute after:inset-0 focus-visible:after:outline-2 focus-visible:after:-outline-offset-2 focus-visible:after:outline-accent">
            {entry.text}
          </Link>
        ) : (
          entry.text
        )}
        <p className="text-xs text-quiet">
          <RelativeTime time={entry.time} />
        </p>
      </div>
    </li>
  );
}
