import { read } from "@/api/client";
import type { SchemaAuditEntry } from "@/api/schema.gen";
import { useKeysetPages } from "@/hooks/keyset";
import { shortDigests } from "@/lib/audit";
import { Button } from "./Button";
import { Skeleton } from "./EmptyState";
import { Section } from "./Page";
import { ProblemNotice } from "./ProblemNotice";
import { RelativeTime } from "./values";

/** What operators decided about one thing, newest first. `may`: whether the reader may see the audit log. */
export function Decisions({ target, noun, may }: { target: string; noun: string; may: boolean }) {
  return (
    <Section title="Decisions" flush>
      {may ? <DecisionList target={target} noun={noun} /> : <p className="px-3 py-4 text-soft">Your role may not see the audit log; ask an operator, auditor or owner.</p>}
    </Section>
  );
}

function DecisionList({ target, noun }: { target: string; noun: string }) {
  const filter = `target:${target} action:${noun}.*`;
  const decisions = useKeysetPages(["audit", filter], (cursor) => read("/api/v1/audit", { query: { filter, cursor, limit: 20 } }));
  if (decisions.problem) return <ProblemNotice problem={decisions.problem} onRetry={decisions.retry} />;
  if (decisions.loading)
    return (
      <div className="flex flex-col gap-4 p-3">
        <Skeleton className="h-3 w-1/2" />
        <Skeleton className="h-3 w-1/3" />
      </div>
    );
  if (decisions.rows.length === 0) return <p className="px-3 py-4 text-soft">Nobody has decided anything about it.</p>;
  return (
    <>
      <ol>
        {decisions.rows.map((entry) => (
          <li key={entry.id} className="border-t border-line px-3 py-2 first:border-t-0">
            <p>
              {decisionWords(entry.action)}
              {entry.detail && <span className="text-soft">: {entry.detail}</span>}
            </p>
            <Changes entry={entry} />
            <p className="text-xs text-quiet">
              <RelativeTime time={entry.time} />, by {entry.actor}
              {entry.source && ` from ${entry.source}`}
            </p>
          </li>
        ))}
      </ol>
      {decisions.hasMore && (
        <div className="border-t border-line p-1.5">
          <Button kind="quiet" className="w-full" onClick={decisions.loadMore}>
            Show earlier decisions
          </Button>
        </div>
      )}
    </>
  );
}

const verbs: Record<string, string> = {
  add: "Registered", import: "Imported", update: "Changed", quarantine: "Quarantined", release: "Released", revoke: "Revoked", token: "New token", key: "New key",
  psk: "Pre-shared key", oscore: "OSCORE context", certificate: "Certificates",
  register: "Registered", remove: "Removed", expire: "Not renewed in time", disconnect: "Disconnected", end: "Ended",
};

function decisionWords(action: string): string {
  const verb = action.slice(action.indexOf(".") + 1);
  return verbs[verb] ?? verb;
}

function Changes({ entry }: { entry: SchemaAuditEntry }) {
  const before: Record<string, unknown> = entry.before ?? {};
  const after: Record<string, unknown> = entry.after ?? {};
  const fields = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  if (fields.length === 0) return null;
  return (
    <p className="flex flex-wrap gap-x-3 text-xs text-soft">
      {fields.map((field) => (
        <span key={field}>
          {field}{" "}
          {field in before && (
            <>
              <code>{show(before[field])}</code> →{" "}
            </>
          )}
          <code>{show(after[field])}</code>
        </span>
      ))}
    </p>
  );
}

function show(value: unknown): string {
  if (value === undefined || value === null || value === "") return "none";
  if (Array.isArray(value)) return value.map(show).join(", ") || "none";
  return shortDigests(typeof value === "object" ? JSON.stringify(value) : String(value));
}
