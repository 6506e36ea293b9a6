import { ChevronRight, Radio } from "lucide-react";
import { useState } from "react";
import { Link } from "wouter";
import { asProblem } from "@/api/problem";
import type { SchemaTopic } from "@/api/schema.gen";
import { classes } from "@/components/class";
import { CopyableCode } from "@/components/Copy";
import { EmptyState, Skeleton } from "@/components/EmptyState";
import { Page } from "@/components/Page";
import { ProblemNotice } from "@/components/ProblemNotice";
import { useHref } from "@/hooks/url";
import { formatCount, formatRate } from "@/lib/format";
import { useTopics } from "./api";
import { Missing, Views } from "./Views";

/** The tree of topics with messages a second, while one looks. */
export default function TopicsPage() {
  const { data, error, refetch } = useTopics("");
  return (
    <Page title="MQTT topics" sentence={<TopicsSentence />}>
      <Views here="/mqtt/topics" />
      <Missing nodes={data?.missing} />
      {error && !data && <ProblemNotice problem={asProblem(error)} onRetry={() => void refetch()} />}
      {!error && !data && <Skeleton className="h-60 w-full" />}
      {data?.items.length === 0 && (
        <EmptyState title="No topic is known yet.">
          <p className="text-soft">A topic is known when it has a retained message, or when a message is published on it while somebody looks. Publish one:</p>
          <CopyableCode label="Command that publishes a message" text={`fieldgate mqtt pub plant/hall-1/temperature '{"temp": 21.5}' --token-file device.token`} />
        </EmptyState>
      )}
      {data && data.items.length > 0 && (
        <section aria-label="Tree of topics" className="rounded border border-line bg-surface">
          <div className="grid grid-cols-[minmax(0,1fr)_72px_72px_40px] gap-x-3 border-b border-line px-3 py-2 text-xs text-quiet">
            <span>Topic</span>
            <span className="text-right">Messages/s</span>
            <span className="text-right">Retained</span>
            <span className="sr-only">Watch</span>
          </div>
          <Level prefix="" depth={0} />
        </section>
      )}
    </Page>
  );
}

function TopicsSentence() {
  const { data } = useTopics("");
  if (!data) return <Skeleton className="my-1.5 h-3 w-64 max-w-full" />;
  const rate = data.items.reduce((sum, t) => sum + t.perSecond, data.othersPerSecond);
  const retained = data.items.reduce((sum, t) => sum + t.retained, 0);
  const href = "/mqtt/retained";
  return (
    <>
      {formatRate(rate)} messages a second{data.countedSeconds < 1 && ", counted from now on"};{" "}
      <Link href={href} className="link">{formatCount(retained)}{data.items.some((t) => t.atLeast) || data.next ? "+" : ""}</Link> retained.
      {data.othersPerSecond > 0 && <> {formatRate(data.othersPerSecond)} a second are on more topics than a gateway counts.</>}
    </>
  );
}

/** One level of the tree. */
function Level({ prefix, depth }: { prefix: string; depth: number }) {
  const { data, error, refetch } = useTopics(prefix);
  if (error && !data) return <ProblemNotice problem={asProblem(error)} onRetry={() => void refetch()} />;
  if (!data) return <Skeleton className="m-3 h-3 w-40" />;
  return (
    <ul>
      {data.items.map((t) => <Row key={t.level} topic={t} depth={depth} />)}
      {data.next && <li className="border-t border-line px-3 py-2 text-xs text-quiet">The first {data.items.length} levels here; the command line lists all: <code>fieldgate mqtt topic list {prefix}</code></li>}
    </ul>
  );
}

function Row({ topic: t, depth }: { topic: SchemaTopic; depth: number }) {
  const [open, setOpen] = useState(false);
  const href = useHref();
  const more = t.atLeast ? "+" : "";
  const name = t.level || "(empty)";
  const filter = t.below > 0 ? `${t.topic}/#` : t.topic;
  return (
    <li className="border-t border-line first:border-t-0">
      <div className="grid min-h-9 grid-cols-[minmax(0,1fr)_72px_72px_40px] items-center gap-x-3 px-3 hover:bg-hover">
        <span className="flex min-w-0 items-center" style={{ paddingLeft: `${Math.min(depth, 12) * 16}px` }}>
          {t.below > 0 ? (
            <button type="button" aria-expanded={open} onClick={() => setOpen(!open)} className="flex h-8 min-w-0 items-center gap-1 rounded-sm text-left" title={t.topic}>
              <ChevronRight size={16} aria-hidden className={classes("shrink-0 text-icon", open && "rotate-90")} />
              <code className="truncate">{name}</code>
              <span className="shrink-0 text-xs text-quiet">{formatCount(t.below)}{more}<span className="sr-only"> below</span></span>
            </button>
          ) : (
            <code className="truncate pl-5">{name}</code>
          )}
        </span>
        <span className="text-right tabular">{t.perSecond > 0 ? formatRate(t.perSecond) : <span className="text-quiet">–</span>}</span>
        <span className="text-right tabular">
          {t.retained > 0 ? <Link href={href("/mqtt/retained", { topic: filter })} className="link" aria-label={`${formatCount(t.retained)}${more} retained on ${filter}`}>{formatCount(t.retained)}{more}</Link> : <span className="text-quiet">–</span>}
        </span>
        <Link href={href("/mqtt/live", { topic: filter })} className="flex size-8 items-center justify-center rounded text-icon hover:bg-pressed" aria-label={`Watch ${filter}`} title={`Watch ${filter}`}>
          <Radio size={16} aria-hidden />
        </Link>
      </div>
      {open && <Level prefix={`${t.topic}/`} depth={depth + 1} />}
    </li>
  );
}
