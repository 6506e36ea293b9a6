import { CircleAlert, CircleCheck, OctagonAlert } from "lucide-react";
import type { SchemaTrafficRecord } from "@/api/schema.gen";
import { formatExact } from "@/lib/format";
import { findingWords, outcomeOf, problemWords } from "@/lib/words";
import { classes } from "./class";

const looks = {
  passed: { icon: CircleCheck, className: "text-soft", iconClass: "text-good" },
  denied: { icon: CircleAlert, className: "text-warning", iconClass: "" },
  failed: { icon: OctagonAlert, className: "text-bad", iconClass: "" },
} as const;

/** How an exchange ended, in a word and HTTP's number: "denied 422". */
export function Outcome({ status }: { status: number }) {
  const outcome = outcomeOf(status);
  const { icon: Icon, className, iconClass } = looks[outcome];
  return (
    <span className={classes("inline-flex items-center gap-1.5 align-top whitespace-nowrap", className)}>
      <Icon size={14} className={classes("shrink-0", iconClass)} aria-hidden />
      {outcome}
      <span className="tabular text-quiet">{status}</span>
    </span>
  );
}

/** What was asked: the operation where a contract explains it, the route as it came where none does. */
export function Asked({ exchange }: { exchange: SchemaTrafficRecord }) {
  return (
    <span title={[exchange.api && `${exchange.api} ${exchange.version ?? ""}`, exchange.route].filter(Boolean).join(" · ") || undefined}>
      <span className="text-quiet">{exchange.method}</span>{" "}
      {exchange.route || !exchange.operation ? <code>{exchange.route || "unknown"}</code> : exchange.operation}
    </span>
  );
}

/** Why an exchange was refused, or what was found although it passed, or how many it stands for. */
export function whyOf(exchange: SchemaTrafficRecord): string {
  if (exchange.rule) return exchange.rule;
  if (exchange.problem) return problemWords(exchange.problem).title;
  const found = exchange.findings?.map((name) => findingWords(name).title).join(", ");
  if (found) return found;
  if (exchange.exchanges > 1) return `${exchange.exchanges} alike`;
  return exchange.status >= 400 ? "So answered the service" : "";
}

/** The time of an exchange to the millisecond, as it stands in a list. */
export function ClockTime({ time }: { time: string }) {
  const date = new Date(time);
  const digits = (value: number, count = 2) => String(value).padStart(count, "0");
  return (
    <time dateTime={time} title={formatExact(date)} className="tabular whitespace-nowrap">
      {digits(date.getHours())}:{digits(date.getMinutes())}:{digits(date.getSeconds())}
      <span className="text-quiet">.{digits(date.getMilliseconds(), 3)}</span>
    </time>
  );
}
