import type { ReactNode } from "react";
import { Link } from "wouter";
import { asProblem } from "@/api/problem";
import type { SchemaExchangeDetail, SchemaTrafficRecord } from "@/api/schema.gen";
import { ProtocolBadge, protocolNames, ToneIcon } from "@/components/Badge";
import { classes } from "@/components/class";
import { EmptyState, Skeleton } from "@/components/EmptyState";
import { Facts } from "@/components/Facts";
import { ProblemNotice } from "@/components/ProblemNotice";
import { Bytes, RelativeTime } from "@/components/values";
import { useHref } from "@/hooks/url";
import { formatDuration, formatExact } from "@/lib/format";
import { findingWords, outcomeOf, problemWords } from "@/lib/words";
import { filterOf, useExchange } from "./api";
import { CapturePanel } from "./CapturePanel";
import { CapturedPair } from "./PayloadView";
import { PipelineStrip } from "./PipelineStrip";
import { breach } from "./payload";

/** One exchange: what happened to it at each stage, who it was, what was found, which clause applied, what it carried. */
export function ExchangeDetail({ instance, known, wide }: { instance: string; known?: SchemaTrafficRecord; wide?: boolean }) {
  const { data, error, refetch, isPlaceholderData } = useExchange(instance, known);
  const problem = error && asProblem(error);
  if (problem && problem.status === 404 && !data) return <Gone />;
  if (problem && !data) return <ProblemNotice problem={problem} onRetry={() => void refetch()} />;
  if (!data) return <DetailSkeleton />;
  const { exchange, captured } = data;
  return (
    <div className="flex flex-col gap-5">
      <Verdict exchange={exchange} wide={wide} />
      <PipelineStrip exchange={exchange} />
      <div className="@container">
        <div className="grid gap-x-8 gap-y-4 @xl:grid-cols-2">
          <Part title="Who"><Who exchange={exchange} /></Part>
          <Part title="What"><What exchange={exchange} /></Part>
          <Findings exchange={exchange} />
          <Clause detail={data} />
        </div>
      </div>
      <Part title="Payloads">
        {captured ? <CapturedPair captured={captured} known={breach(exchange.detail)} /> : isPlaceholderData ? <Skeleton className="h-20 w-full" /> : <CapturePanel exchange={exchange} />}
      </Part>
      <Others exchange={exchange} />
    </div>
  );
}

function Part({ title, broad, children }: { title: string; broad?: boolean; children: ReactNode }) {
  return (
    <section className={classes("flex min-w-0 flex-col gap-2", broad && "@xl:max-@4xl:col-span-2")}>
      <h3 className="font-semibold">{title}</h3>
      {children}
    </section>
  );
}

const tones = { passed: "good", denied: "warning", failed: "bad" } as const;

/** "Denied with 422: the payload breaks the contract." */
export function verdictOf(exchange: SchemaTrafficRecord): string {
  const outcome = outcomeOf(exchange.status);
  const verb = `${outcome[0]!.toUpperCase()}${outcome.slice(1)} with ${exchange.status}`;
  if (exchange.problem) {
    const { title } = problemWords(exchange.problem);
    return `${verb}: ${title[0]!.toLowerCase()}${title.slice(1)}.`;
  }
  return outcome === "passed" ? `${verb} in ${formatDuration(exchange.durationMicros)}.` : `${verb}: so answered the service behind the API.`;
}

/** The verdict, where the payload broke the contract, and what to do; on the page its sentence says the first already. */
function Verdict({ exchange, wide }: { exchange: SchemaTrafficRecord; wide?: boolean }) {
  const remedy = exchange.problem && problemWords(exchange.problem).remedy;
  if (wide && !exchange.detail && !remedy) return null;
  return (
    <div className="flex gap-2.5">
      <span className={wide ? "mt-px" : "mt-1"}><ToneIcon tone={tones[outcomeOf(exchange.status)]} /></span>
      <div>
        {!wide && <p className="text-lg font-medium text-pretty">{verdictOf(exchange)}</p>}
        {exchange.detail && (
          <p className="text-soft">
            <Breach detail={exchange.detail} />
          </p>
        )}
        {remedy && <p className="text-soft">{remedy}</p>}
      </div>
    </div>
  );
}

function Breach({ detail }: { detail: string }) {
  const found = breach(detail);
  if (!found) return <code className="break-all">{detail}</code>;
  return (
    <>
      {found.pointer ? <code>{found.pointer}</code> : "The payload"} breaks <code>{found.clause}</code> of the contract's schema.
    </>
  );
}

function Who({ exchange }: { exchange: SchemaTrafficRecord }) {
  const href = useHref();
  const page = exchange.kind === "device" ? "/devices" : exchange.kind === "app" ? "/apps" : undefined;
  const name = exchange.principal && <code>{exchange.principal}</code>;
  return (
    <Facts
      facts={[
        [kindName(exchange.kind), name && page ? <Link href={href(`${page}/${encodeURIComponent(exchange.principal!)}`)} className="link">{name}</Link> : name],
        ["Caller", !name && "nobody that is known: it showed no valid credential"],
        ["Model", exchange.model && <Link href={href("/traffic", { filter: filterOf({ model: exchange.model }) })} className="link">{exchange.model}</Link>],
        ["Firmware", exchange.firmware && <Link href={href("/traffic", { filter: filterOf({ model: exchange.model, firmware: exchange.firmware }) })} className="link tabular">{exchange.firmware}</Link>],
        ["From", exchange.source && <code>{exchange.source}</code>],
        ["At gateway", exchange.node && <code>{exchange.node}</code>],
      ]}
    />
  );
}

function kindName(kind: string | undefined): string {
  return kind === "app" ? "App" : kind === "device" ? "Device" : kind === "foreign" ? "Foreign caller" : "Caller";
}

function What({ exchange }: { exchange: SchemaTrafficRecord }) {
  const href = useHref();
  return (
    <Facts
      facts={[
        ["Operation", exchange.operation && (
          <>
            <Link href={href("/traffic", { filter: filterOf({ api: exchange.api, operation: exchange.operation }) })} className="link">{exchange.operation}</Link> of{" "}
            <Link href={href(`/apis/${encodeURIComponent(exchange.api ?? "")}`)} className="link">{exchange.api} {exchange.version}</Link>
          </>
        )],
        ["Route", exchange.route && <code className="break-all">{exchange.method} {exchange.route}</code>],
        ["By", <span className="inline-flex items-center gap-2"><ProtocolBadge protocol={exchange.protocol} /> {exchange.method}</span>],
        ["Began", <><RelativeTime time={exchange.time} /> <span className="text-quiet">({formatExact(new Date(exchange.time)).replace(/ \(.*/, "")})</span></>],
        ["Took", <span className="tabular">{formatDuration(exchange.durationMicros)}{exchange.upstreamMicros ? `, ${formatDuration(exchange.upstreamMicros)} of it in the service` : ""}</span>],
        ["Stands for", exchange.exchanges > 1 && `${exchange.exchanges} exchanges alike within a moment; bytes are of all, time and duration of the first`],
        ["Payload", <><Bytes bytes={exchange.bytesIn} /> in, <Bytes bytes={exchange.bytesOut} /> out</>],
        ["Instance", <code className="select-all">{exchange.instance}</code>],
      ]}
    />
  );
}

function Findings({ exchange }: { exchange: SchemaTrafficRecord }) {
  const href = useHref();
  if (!exchange.findings?.length) return null;
  return (
    <Part title="Findings" broad>
      <ul className="flex flex-col gap-2">
        {exchange.findings.map((name) => {
          const words = findingWords(name);
          return (
            <li key={name} className="flex flex-col">
              <span>
                <Link href={href("/traffic", { filter: filterOf({ finding: name, api: exchange.api }) })} className="link font-medium">{words.title}</Link>{" "}
                <code className="text-quiet">{name}</code>
              </span>
              <span className="text-soft">{words.remedy}</span>
            </li>
          );
        })}
      </ul>
    </Part>
  );
}

/** The part of the contract that applied, or that none did. */
function Clause({ detail: { exchange, operation, clause } }: { detail: SchemaExchangeDetail }) {
  const href = useHref();
  if (!exchange.operation) {
    return (
      <Part title="Contract" broad>
        <p className="text-soft">
          No contract explains it.{" "}
          {exchange.route && (
            <Link href={href("/apis/draft", { filter: `protocol:${exchange.protocol} "${exchange.route.replace(/[\\"]/g, "\\$&")}"` })} className="link">
              Draft one from this route
            </Link>
          )}
        </p>
      </Part>
    );
  }
  const bindings = operation && ([["http", operation.http], ["mqtt", operation.mqtt], ["coap", operation.coap]] as const).filter(([, text]) => text);
  return (
    <Part title="Contract" broad>
      <p>
        <Link href={href(`/apis/${encodeURIComponent(exchange.api ?? "")}`, { version: exchange.version, operation: exchange.operation })} className="link">
          {operation?.summary ?? exchange.operation}
        </Link>{" "}
        <span className="text-soft">in {exchange.api} {exchange.version}</span>
      </p>
      {clause && <p className="text-soft">Clause <code className="break-all">{clause}</code></p>}
      {bindings && bindings.length > 0 && (
        <Facts facts={bindings.map(([protocol, text]) => [protocolNames[protocol], <code className={protocol === exchange.protocol ? "" : "text-soft"}>{text}</code>] as const)} />
      )}
    </Part>
  );
}

function Others({ exchange }: { exchange: SchemaTrafficRecord }) {
  const href = useHref();
  const links: [string, string][] = [];
  if (exchange.principal) links.push(["of this caller", filterOf({ principal: exchange.principal })]);
  if (exchange.operation) links.push(["of this operation", filterOf({ api: exchange.api, operation: exchange.operation })]);
  if (exchange.problem) links.push(["refused for the same reason", filterOf({ problem: exchange.problem })]);
  if (links.length === 0) return null;
  return (
    <p className="flex flex-wrap gap-x-4 gap-y-1 border-t border-line pt-3 text-soft">
      Other exchanges:
      {links.map(([text, filter]) => (
        <Link key={text} href={href("/traffic", { filter })} className="link">{text}</Link>
      ))}
    </p>
  );
}

function Gone() {
  const href = useHref();
  return (
    <EmptyState title="This exchange is no longer kept.">
      <p className="text-soft">
        The newest exchanges are kept in memory, a bounded number of them. <Link href={href("/traffic")} className="link">Show those there are</Link>.
      </p>
    </EmptyState>
  );
}

function DetailSkeleton() {
  return (
    <div className="flex h-[480px] flex-col gap-5">
      <Skeleton className="h-5 w-1/2" />
      <Skeleton className="h-14 w-full" />
      <Skeleton className="h-3 w-1/3" />
      <Skeleton className="h-3 w-1/2" />
      <Skeleton className="h-3 w-1/3" />
    </div>
  );
}
