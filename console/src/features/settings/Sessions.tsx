import { asProblem } from "@/api/problem";
import type { SchemaSession } from "@/api/schema.gen";
import { Badge } from "@/components/Badge";
import { Button } from "@/components/Button";
import { Skeleton } from "@/components/EmptyState";
import { Section } from "@/components/Page";
import { PlainTable, type PlainColumn } from "@/components/PlainTable";
import { ProblemNotice } from "@/components/ProblemNotice";
import { showToast } from "@/components/toasts";
import { RelativeTime } from "@/components/values";
import { useMay } from "@/session/session";
import { useEndSession, useSessions } from "./api";
import { browserOf } from "./browser";

/** Who is signed in, and from where: one's own sessions, and for owners those of everybody. */
export function Sessions() {
  const sessions = useSessions();
  const all = useMay("access.write");
  if (sessions.problem) return <ProblemNotice problem={sessions.problem} onRetry={sessions.retry} />;
  return (
    <Section title={all ? "Sessions of everybody" : "Your sessions"} flush>
      {sessions.loading && <div className="p-3"><Skeleton className="h-16 w-full" /></div>}
      {!sessions.loading && sessions.rows.length === 0 && <p className="px-3 py-4 text-soft">Nobody is signed in with a browser.</p>}
      {sessions.rows.length > 0 && <PlainTable label="Sessions" columns={columns} rows={sessions.rows} rowKey={(s) => s.id ?? s.name} />}
      {sessions.hasMore && <Button kind="quiet" className="w-full" onClick={sessions.loadMore}>Show more</Button>}
    </Section>
  );
}

const columns: readonly PlainColumn<SchemaSession>[] = [
  { id: "name", header: "Who", cell: (s) => <span className="inline-flex flex-wrap items-center gap-2"><span className="font-medium">{s.name}</span>{s.current && <Badge tone="notice">this one</Badge>}</span> },
  { id: "role", header: "Role", from: "md", cell: (s) => s.role },
  { id: "source", header: "From", cell: (s) => <code>{s.source}</code> },
  { id: "browser", header: "With", from: "lg", cell: (s) => <span title={s.userAgent}>{browserOf(s.userAgent ?? "")}</span> },
  { id: "seen", header: "Last request", from: "sm", cell: (s) => s.seenAt && <RelativeTime time={s.seenAt} /> },
  { id: "created", header: "Signed in", from: "md", cell: (s) => s.createdAt && <RelativeTime time={s.createdAt} /> },
  { id: "expires", header: "Ends", from: "lg", cell: (s) => s.expiresAt && <RelativeTime time={s.expiresAt} /> },
  { id: "actions", header: "", align: "end", cell: (s) => <EndSession session={s} /> },
];

function EndSession({ session: { id, name, source, current } }: { session: SchemaSession }) {
  const end = useEndSession();
  if (!id) return null;
  return (
    <Button
      kind="quiet"
      busy={end.isPending}
      aria-label={current ? "Sign out here" : `End the session of ${name} from ${source}`}
      onClick={() =>
        end.mutate(id, {
          onSuccess: () => showToast(`The session of ${name} is over`, { tone: "good" }),
          onError: (error) => showToast(asProblem(error).message, { tone: "bad" }),
        })
      }
    >
      {current ? "Sign out" : "End"}
    </Button>
  );
}
