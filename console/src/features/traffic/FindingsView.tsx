import { Link } from "wouter";
import type { SchemaFinding, SchemaSeverity } from "@/api/schema.gen";
import { Badge } from "@/components/Badge";
import { Button } from "@/components/Button";
import { EmptyState, Skeleton } from "@/components/EmptyState";
import { FilterBar } from "@/components/FilterBar";
import { ProblemNotice } from "@/components/ProblemNotice";
import { RelativeTime } from "@/components/values";
import { useFilter, useHref } from "@/hooks/url";
import type { FilterField } from "@/lib/filter";
import { formatCount, formatShortCount } from "@/lib/format";
import { findingFilter, useFindings } from "./api";

const fields: readonly FilterField[] = [
  { key: "severity", help: "how soon", values: ["bad", "warning", "notice"] },
  { key: "finding", help: "such as not-owner" },
  { key: "api", help: "such as thermo" },
  { key: "version", help: "of the API" },
  { key: "operation", help: "such as sendTelemetry" },
];

const words: Record<SchemaSeverity, string> = { bad: "Soon", warning: "Look", notice: "Know" };

/** What traffic says that needs a look: what, why we think so, what to do. */
export function FindingsView() {
  const { text, setText } = useFilter();
  const findings = useFindings(text);
  return (
    <>
      <FilterBar fields={fields} text={text} onChange={setText} placeholder="Filter: severity:bad api:thermo" />
      {findings.problem && <ProblemNotice problem={findings.problem} onRetry={findings.retry} />}
      {findings.loading && (
        <div className="flex flex-col gap-5 py-4">
          <Skeleton className="h-4 w-2/3" />
          <Skeleton className="h-4 w-1/2" />
          <Skeleton className="h-4 w-3/5" />
        </div>
      )}
      {!findings.loading && !findings.problem && findings.rows.length === 0 && (
        <EmptyState title={text ? "No finding fits." : "Nothing was found in the last 24 hours."}>
          <p className="text-soft">Findings say what traffic shows: payloads that break the contract, callers that name another device, routes without a contract, services that fail.</p>
        </EmptyState>
      )}
      {findings.rows.length > 0 && (
        <ul className={`rounded border border-line bg-surface ${findings.stale ? "opacity-60" : ""}`}>
          {findings.rows.map((f) => <FindingItem key={`${f.finding} ${f.api} ${f.version} ${f.operation}`} finding={f} />)}
        </ul>
      )}
      {findings.hasMore && <Button onClick={findings.loadMore}>Show more findings</Button>}
    </>
  );
}

function FindingItem({ finding }: { finding: SchemaFinding }) {
  const href = useHref();
  return (
    <li className="grid grid-cols-[64px_minmax(0,1fr)] gap-x-3 border-t border-line px-3 py-3 first:border-t-0">
      <div><Badge tone={finding.severity}>{words[finding.severity]}</Badge></div>
      <div className="flex min-w-0 flex-col gap-0.5">
        <p className="font-medium">{finding.message}</p>
        <p className="text-soft">{finding.remedy}</p>
        <p className="flex min-w-0 flex-wrap gap-x-3 gap-y-0.5 text-xs text-quiet">
          <Link href={href("/traffic", { filter: findingFilter(finding) })} className="link tabular" title={formatCount(finding.exchanges)}>
            {formatShortCount(finding.exchanges)} {finding.exchanges === 1 ? "exchange" : "exchanges"}
          </Link>
          <span>first <RelativeTime time={finding.firstSeen} />, last <RelativeTime time={finding.lastSeen} /></span>
          {finding.api && <Link href={href(`/apis/${encodeURIComponent(finding.api)}`)} className="link">{finding.api} {finding.version}</Link>}
          {finding.principal && <Link href={href("/traffic", { filter: `principal:${finding.principal}` })} className="link font-mono">{finding.principal}</Link>}
          {finding.example && <code className="min-w-0 break-all">{finding.example}</code>}
        </p>
      </div>
    </li>
  );
}
