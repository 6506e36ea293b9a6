import { useState, type ReactNode } from "react";
import { Link } from "wouter";
import type { SchemaFinding, SchemaFindingPage, SchemaSeverity, SchemaWarning } from "@/api/schema.gen";
import { Badge, ToneIcon } from "@/components/Badge";
import { Button } from "@/components/Button";
import { Skeleton } from "@/components/EmptyState";
import { Section } from "@/components/Page";
import { OverSince, RelativeTime } from "@/components/values";
import { useHref } from "@/hooks/url";
import { formatShortCount, plural } from "@/lib/format";
import { findingFilter, warningAddress } from "./filters";

const words: Record<SchemaSeverity, string> = { bad: "urgent", warning: "warning", notice: "notice" };

/** What needs a person: findings that go on and warnings of the installation, the most severe first; what is over, apart. */
export function Attention({ warnings, findings }: { warnings: readonly SchemaWarning[] | undefined; findings: SchemaFindingPage | undefined }) {
  const loading = !warnings || !findings;
  const [all, setAll] = useState(false);
  const ongoing = findings?.items.filter((f) => f.state === "ongoing") ?? [];
  const over = findings?.items.filter((f) => f.state !== "ongoing") ?? [];
  const none = !loading && warnings.length === 0 && ongoing.length === 0;
  const items = severities.flatMap((severity) => [
    ...ongoing.filter((f) => f.severity === severity).map((f) => <FindingItem key={keyOf(f)} finding={f} />),
    ...(warnings ?? []).filter((w) => w.severity === severity).map((w) => <WarningItem key={`${w.code} ${w.api ?? ""} ${w.version ?? ""} ${w.message}`} warning={w} />),
  ]);
  const count = (severity: SchemaSeverity) => [...ongoing, ...(warnings ?? [])].filter((item) => item.severity === severity).length;
  return (
    <div id="attention" className="scroll-mt-4">
      <Section title="Needs a look" flush actions={!loading && <Counts of={{ bad: count("bad"), warning: count("warning"), notice: count("notice") }} />}>
        {loading && (
          <div className="flex h-40 flex-col gap-4 p-3">
            <Skeleton className="h-3 w-2/3" />
            <Skeleton className="h-3 w-1/2" />
          </div>
        )}
        {none && (
          <p className="flex items-center gap-2 px-3 py-6 text-soft">
            <ToneIcon tone="good" /> Nothing needs you. What traffic shows that goes wrong stands here.
          </p>
        )}
        <ul>{all ? items : items.slice(0, few)}</ul>
        {items.length > few && (
          <div className="border-t border-line p-1.5">
            <Button kind="quiet" className="w-full" aria-expanded={all} onClick={() => setAll(!all)}>
              {all ? "Show only the first" : `Show ${items.length - few} more`}
            </Button>
          </div>
        )}
        {over.length > 0 && (
          <details className="border-t border-line">
            <summary className="cursor-pointer px-3 py-2.5 text-soft hover:bg-hover">{plural(over.length, "finding")} of the last 24 hours {over.length === 1 ? "is" : "are"} over</summary>
            <ul className="border-t border-line">{over.map((f) => <FindingItem key={keyOf(f)} finding={f} />)}</ul>
          </details>
        )}
        {all && findings?.next && <p className="border-t border-line px-3 py-2 text-quiet">There are more; these are those that go on, and the newest.</p>}
      </Section>
    </div>
  );
}

const few = 6;

const severities = ["bad", "warning", "notice"] as const;

const keyOf = (f: SchemaFinding) => `${f.finding} ${f.api} ${f.version} ${f.operation}`;

function Counts({ of }: { of: Record<SchemaSeverity, number> }) {
  return severities.map((severity) =>
    of[severity] === 0 ? null : (
      <Badge key={severity} tone={severity}>
        {severity === "bad" ? `${of.bad} urgent` : plural(of[severity], words[severity])}
      </Badge>
    ),
  );
}

function FindingItem({ finding }: { finding: SchemaFinding }) {
  const href = useHref();
  const where = [finding.api && `${finding.api} ${finding.version}`, finding.operation].filter(Boolean).join(" · ");
  return (
    <Item tone={finding.severity} message={finding.message} remedy={finding.state === "ongoing" ? finding.remedy : undefined}>
      {finding.state === "over" && <OverSince time={finding.lastSeen} />}
      {finding.state === "not-served" && <span>no longer served</span>}
      <Link href={href("/traffic", { filter: findingFilter(finding) })} className="link tabular">
        {formatShortCount(finding.exchanges)} {finding.exchanges === 1 ? "exchange" : "exchanges"}
      </Link>
      {finding.state !== "over" && (
        <span>
          last <RelativeTime time={finding.lastSeen} />
        </span>
      )}
      {finding.api ? (
        <Link href={href(`/apis/${encodeURIComponent(finding.api)}`)} className="link">
          {where}
        </Link>
      ) : (
        where && <span>{where}</span>
      )}
      {finding.principal && (
        <Link href={href("/traffic", { filter: `principal:${finding.principal}` })} className="link font-mono">
          {finding.principal}
        </Link>
      )}
      {finding.example && <code className="min-w-0 truncate" title={finding.example}>{finding.example}</code>}
    </Item>
  );
}

function WarningItem({ warning }: { warning: SchemaWarning }) {
  const href = useHref();
  const address = warningAddress(warning);
  return (
    <Item tone={warning.severity} message={warning.api ? `${warning.message}.` : sentence(warning.message)} remedy={sentence(warning.remedy)}>
      {address && (
        <Link href={href(...address)} className="link">
          {warning.api ? `${warning.api} ${warning.version ?? ""}` : warning.upstream ? `Show ${warning.upstream}` : warning.node ? "Show the gateways" : "Show the traffic"}
        </Link>
      )}
    </Item>
  );
}

function Item({ tone, message, remedy, children }: { tone: SchemaSeverity; message: string; remedy?: string; children?: ReactNode }) {
  return (
    <li className="flex gap-2.5 border-t border-line px-3 py-2.5 first:border-t-0">
      <span className="mt-0.5">
        <ToneIcon tone={tone} />
      </span>
      <div className="flex min-w-0 flex-1 flex-col gap-0.5">
        <p className="font-medium">
          <span className="sr-only">{words[tone]}: </span>
          {message}
        </p>
        {remedy && <p className="text-soft">{remedy}</p>}
        <div className="flex min-w-0 flex-wrap items-center gap-x-3 text-xs leading-6 text-quiet empty:hidden [&_a]:inline-block [&_a]:min-h-6">{children}</div>
      </div>
    </li>
  );
}

/** A warning's phrase as a sentence. */
function sentence(text: string): string {
  const trimmed = text.trim();
  return trimmed && trimmed[0]!.toUpperCase() + trimmed.slice(1) + (/[.!?]$/.test(trimmed) ? "" : ".");
}
