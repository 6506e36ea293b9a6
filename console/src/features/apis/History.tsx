import { read } from "@/api/client";
import { AuditList } from "@/components/AuditList";
import { useKeysetPages } from "@/hooks/keyset";
import { useMay } from "@/session/session";

/** What was decided about an API, for those who may see the audit log. */
export function History({ api }: { api: string }) {
  const may = useMay("audit.read");
  return may ? <Decisions api={api} /> : <p className="py-4 text-soft">Your role may not see the audit log; ask an operator, auditor or owner.</p>;
}

function Decisions({ api }: { api: string }) {
  // The target is the name and a version; the filter selects by its beginning, which other names may share.
  const filter = `target:${api}* action:api.*`;
  const pages = useKeysetPages(["audit", filter], (cursor, signal) => read("/api/v1/audit", { query: { filter, cursor, limit: 50 }, signal }));
  return <AuditList pages={pages} rows={pages.rows.filter((e) => e.target.split(" ")[0] === api)} none="Nothing was decided about it." />;
}
