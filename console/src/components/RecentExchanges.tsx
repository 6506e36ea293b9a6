import { Link } from "wouter";
import { useHref } from "@/hooks/url";
import { useTail } from "@/hooks/tail";
import { formatDuration } from "@/lib/format";
import { ProtocolBadge } from "./Badge";
import { Skeleton } from "./EmptyState";
import { Asked, ClockTime, Outcome, whyOf } from "./Outcome";
import { Section } from "./Page";
import { ProblemNotice } from "./ProblemNotice";

const shown = 12;

/** The newest exchanges of one caller, as they happen. */
export function RecentExchanges({ filter, none }: { filter: string; none: string }) {
  const { pages } = useTail(filter, filter, false, shown);
  const href = useHref();
  return (
    <Section
      title="Recent exchanges"
      flush
      actions={
        <Link href={href("/traffic", { filter })} className="link px-1 text-xs">
          All of them
        </Link>
      }
    >
      {pages.problem && <ProblemNotice problem={pages.problem} onRetry={pages.retry} />}
      {pages.loading && (
        <div className="flex flex-col gap-4 p-3">
          <Skeleton className="h-3 w-2/3" />
          <Skeleton className="h-3 w-1/2" />
        </div>
      )}
      {!pages.loading && !pages.problem && pages.rows.length === 0 && <p className="px-3 py-4 text-soft">{none}</p>}
      <ul>
        {pages.rows.slice(0, shown).map((exchange) => (
          <li key={exchange.instance} className="relative border-t border-line px-3 py-1.5 first:border-t-0 hover:bg-hover">
            <div className="flex items-center gap-3">
              <Link
                href={href(`/traffic/${encodeURIComponent(exchange.instance)}`)}
                className="text-xs outline-none after:absolute after:inset-0 focus-visible:after:outline-2 focus-visible:after:-outline-offset-2 focus-visible:after:outline-accent"
              >
                <ClockTime time={exchange.time} />
              </Link>
              <span className="min-w-0 flex-1 truncate">
                <Asked exchange={exchange} />
              </span>
              <Outcome status={exchange.status} />
            </div>
            <div className="flex items-center gap-3 text-xs text-quiet">
              <ProtocolBadge protocol={exchange.protocol} />
              <span className="min-w-0 flex-1 truncate">{whyOf(exchange)}</span>
              <span className="tabular">{formatDuration(exchange.durationMicros)}</span>
            </div>
          </li>
        ))}
      </ul>
    </Section>
  );
}
