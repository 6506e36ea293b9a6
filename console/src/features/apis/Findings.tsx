import { Link } from "wouter";
import { ToneIcon } from "@/components/Badge";
import { Button } from "@/components/Button";
import { EmptyState, Skeleton } from "@/components/EmptyState";
import { ProblemNotice } from "@/components/ProblemNotice";
import { OverSince, RelativeTime } from "@/components/values";
import { useHref } from "@/hooks/url";
import { formatFilter } from "@/lib/filter";
import { plural } from "@/lib/format";
import { useFindings } from "./api";

/** What the traffic of an API says that needs a look. */
export function Findings({ api }: { api: string }) {
  const findings = useFindings(api);
  const href = useHref();
  if (findings.problem) return <ProblemNotice problem={findings.problem} onRetry={findings.retry} />;
  if (findings.loading) return <Skeleton className="h-24 w-full" />;
  if (findings.rows.length === 0) {
    return (
      <EmptyState title="Nothing was found in the last 24 hours.">
        <p className="text-soft">Payloads that break the contract, callers without a credential, callers of other devices' resources and the like stand here, each with what to do.</p>
      </EmptyState>
    );
  }
  return (
    <div className="flex flex-col gap-2">
      <ul className="rounded border border-line bg-surface">
        {findings.rows.map((f) => {
          const filter = formatFilter(
            Object.entries({ finding: f.finding, api: f.api, version: f.version, operation: f.operation }).flatMap(([key, value]) => (value ? [{ key, value, negated: false }] : [])),
          );
          return (
            <li key={`${f.finding} ${f.version} ${f.operation}`} className="flex gap-2.5 border-t border-line px-3 py-2.5 first:border-t-0">
              <span className="mt-0.5"><ToneIcon tone={f.severity} /></span>
              <div className="flex min-w-0 flex-1 flex-col gap-0.5">
                <p className="font-medium"><span className="sr-only">{f.severity}: </span>{f.message}</p>
                {f.state === "ongoing" && <p className="text-soft">{f.remedy}</p>}
                <p className="flex flex-wrap gap-x-3 text-xs leading-6 text-quiet tabular">
                  <Link href={href("/traffic", { filter })} className="link">{plural(f.exchanges, "exchange")}</Link>
                  <span>first <RelativeTime time={f.firstSeen} /></span>
                  <span>last <RelativeTime time={f.lastSeen} /></span>
                  {f.state === "over" && <OverSince time={f.lastSeen} />}
                  {f.state === "not-served" && <span>no longer served</span>}
                  {f.principal && <Link href={href("/traffic", { filter: `principal:${f.principal}` })} className="link font-mono">{f.principal}</Link>}
                  {f.example && <code className="min-w-0 truncate" title={f.example}>{f.example}</code>}
                </p>
              </div>
            </li>
          );
        })}
      </ul>
      {findings.hasMore && <Button onClick={findings.loadMore} className="self-start">Show more</Button>}
    </div>
  );
}
