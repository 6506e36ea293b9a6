import { ChevronRight } from "lucide-react";
import { Fragment, useMemo } from "react";
import { Link } from "wouter";
import type { SchemaApiDetail, SchemaOperation, SchemaOperationTraffic } from "@/api/schema.gen";
import { asProblem } from "@/api/problem";
import { Badge, ProtocolBadge } from "@/components/Badge";
import { CopyableCode } from "@/components/Copy";
import { EmptyState, Skeleton } from "@/components/EmptyState";
import { ProblemNotice } from "@/components/ProblemNotice";
import { readDocument, requestExample } from "@/components/reference/document";
import { useHref, useRange, useUrlParam } from "@/hooks/url";
import { formatFilter } from "@/lib/filter";
import { formatCount, formatDuration, formatShortCount, plural } from "@/lib/format";
import { useApiTraffic, useReference, useStatus } from "./api";
import { cellOf, columnProtocols, columnsOf, commandsOf, parametersOf, trafficOf, type MatrixCell, type MatrixColumn } from "./calls";

/** Operations by protocols: each cell says how it is called there, and what came of it in the page's range. */
export function Operations({ api }: { api: SchemaApiDetail }) {
  const range = useRange();
  const { data: traffic, error, refetch } = useApiTraffic(api.name, range.minutes, range.live);
  const [open, setOpen] = useUrlParam("operation");
  const columns = useMemo(() => columnsOf(api.operations, traffic ?? []), [api.operations, traffic]);
  const severalVersions = new Set(api.operations.map((o) => o.version)).size > 1;
  if (api.operations.length === 0) {
    return (
      <EmptyState title="No version of it is served.">
        <p className="text-soft">Its callers are answered 410 Gone. Restore a version, or publish a new one.</p>
      </EmptyState>
    );
  }
  const rows = api.operations.map((operation) => ({ operation, key: `${operation.version} ${operation.id}`, traffic: trafficOf(traffic ?? [], operation) }));
  return (
    <div className="flex flex-col gap-3">
      {error && <ProblemNotice problem={asProblem(error)} onRetry={() => void refetch()} />}
      <div className="overflow-x-auto rounded border border-line bg-surface max-md:hidden" tabIndex={0} role="group" aria-label="Operations by protocol">
        <table className="w-full text-left">
          <thead>
            <tr className="text-xs text-quiet">
              <th scope="col" className="sticky left-0 min-w-52 bg-surface px-3 py-2 font-normal">Operation, last {range.label}</th>
              {columns.map((c) => (
                <th key={c} scope="col" className="border-l border-line px-3 py-2 font-normal"><ColumnName column={c} /></th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map(({ operation, key, traffic: own }) => (
              <Fragment key={key}>
                <tr className="border-t border-line align-top">
                  <th scope="row" className="sticky left-0 bg-surface px-2 py-2 font-normal">
                    <OperationName operation={operation} traffic={own} showVersion={severalVersions} open={open === key} onToggle={() => setOpen(open === key ? "" : key, { replace: true })} />
                  </th>
                  {columns.map((column) => {
                    const cell = cellOf(operation, own, column);
                    return (
                      <td key={column} className="h-px min-w-44 border-l border-line">
                        {cell && <Cell api={api.name} operation={operation} column={column} cell={cell} loading={!traffic} />}
                      </td>
                    );
                  })}
                </tr>
                {open === key && (
                  <tr className="border-t border-line bg-canvas">
                    <td colSpan={columns.length + 1} className="p-3"><Details api={api.name} operation={operation} /></td>
                  </tr>
                )}
              </Fragment>
            ))}
          </tbody>
        </table>
      </div>
      <ul className="flex flex-col gap-3 md:hidden">
        {rows.map(({ operation, key, traffic: own }) => (
          <li key={key} className="rounded border border-line bg-surface">
            <div className="px-2 py-2">
              <OperationName operation={operation} traffic={own} showVersion={severalVersions} open={open === key} onToggle={() => setOpen(open === key ? "" : key, { replace: true })} />
            </div>
            {columns.map((column) => {
              const cell = cellOf(operation, own, column);
              return cell && (
                <div key={column} className="border-t border-line">
                  <p className="px-3 pt-2"><ColumnName column={column} /></p>
                  <Cell api={api.name} operation={operation} column={column} cell={cell} loading={!traffic} />
                </div>
              );
            })}
            {open === key && <div className="border-t border-line p-3"><Details api={api.name} operation={operation} /></div>}
          </li>
        ))}
      </ul>
      <p className="text-xs text-quiet">A cell leads to its traffic. p50 and p99: half of the exchanges, and 99 of 100, took no longer.</p>
    </div>
  );
}

function OperationName({ operation, traffic, showVersion, open, onToggle }: {
  operation: SchemaOperation;
  traffic: SchemaOperationTraffic | undefined;
  showVersion: boolean;
  open: boolean;
  onToggle: () => void;
}) {
  const { id, version, summary, anonymous, passThrough, kinds, scopes, upstream, upstreamMissing, rules = [] } = operation;
  return (
    <div className="flex items-start gap-1">
      <button type="button" aria-expanded={open} aria-label={`Rules of ${id}, and how to call it`} className="grid size-6 shrink-0 place-items-center rounded-sm text-icon hover:bg-pressed" onClick={onToggle}>
        <ChevronRight size={16} className={open ? "rotate-90" : ""} aria-hidden />
      </button>
      <div className="min-w-0 pt-0.5">
        <p className="flex flex-wrap items-center gap-x-2 font-medium">
          {id}
          {showVersion && <span className="font-normal text-quiet tabular">{version}</span>}
        </p>
        {summary && <p className="max-w-[44ch] text-soft">{summary}</p>}
        <p className="flex flex-wrap gap-x-2 text-xs text-quiet">
          {passThrough ? <Badge tone="warning">unchecked</Badge> : anonymous ? <Badge tone="warning">no credential</Badge> : <span>{(kinds ?? []).map((k) => `${k}s`).join(", ")}</span>}
          {scopes && scopes.length > 0 && <span>apps need {scopes.join(", ")}</span>}
          {upstream && <span>to {upstream}</span>}
          {upstreamMissing && <Badge tone="bad">no gateway has {upstream}</Badge>}
          {rules.length > 0 && <button type="button" aria-expanded={open} className="link -my-1 min-h-6 tabular" onClick={onToggle}>{plural(rules.length, "rule")}</button>}
          {traffic && traffic.devices > 0 && <span className="tabular">{plural(traffic.devices, "caller")}</span>}
        </p>
      </div>
    </div>
  );
}

const ColumnName = ({ column }: { column: MatrixColumn }) => (
  <span className="inline-flex gap-3">{columnProtocols[column].map((p) => <ProtocolBadge key={p} protocol={p} />)}</span>
);

function Cell({ api, operation, column, cell: { call, traffic }, loading }: { api: string; operation: SchemaOperation; column: MatrixColumn; cell: MatrixCell; loading: boolean }) {
  const href = useHref();
  const terms = { api, version: operation.version, operation: operation.id };
  const filter = `${formatFilter(Object.entries(terms).map(([key, value]) => ({ key, value, negated: false })))} protocol:${columnProtocols[column].join(",")}`;
  return (
    <Link href={href("/traffic", { filter })} className="flex h-full flex-col gap-0.5 px-3 py-2 hover:bg-hover">
      {call ? <Call call={call} /> : <span className="text-quiet">not in the contract</span>}
      {traffic.map((t) => (
        <Fragment key={t.protocol}>
          <span className="flex flex-wrap gap-x-2.5 tabular">
            {traffic.length > 1 && <ProtocolBadge protocol={t.protocol} />}
            <span title={formatCount(t.exchanges)}>{formatShortCount(t.exchanges)} {t.exchanges === 1 ? "call" : "calls"}</span>
            {t.refused > 0 && <span className="text-warning">{formatShortCount(t.refused)} refused</span>}
            {t.failed > 0 && <span className="text-bad">{formatShortCount(t.failed)} failed</span>}
          </span>
          <span className="text-xs text-quiet tabular">p50 {formatDuration(t.p50Micros)}, p99 {formatDuration(t.p99Micros)}</span>
        </Fragment>
      ))}
      {traffic.length === 0 && (loading ? <Skeleton className="my-1 h-2.5 w-20" /> : <span className="text-quiet">no traffic</span>)}
    </Link>
  );
}

/** `POST /devices/{id}/telemetry` and `publish d/{id} (QoS 1)`, broken only between segments. */
function Call({ call }: { call: string }) {
  const [, verb, template, rest] = /^(\S+) (\S+)(?: (.*))?$/.exec(call) ?? [undefined, "", call, undefined];
  return (
    <span>
      <code>
        <span className="text-soft">{verb}</span> {template!.split("/").map((segment, i) => <Fragment key={i}>{i > 0 && <>/<wbr /></>}{segment}</Fragment>)}
      </code>
      {rest && <span className="text-xs whitespace-nowrap text-quiet"> {rest.replace(/[()]/g, "")}</span>}
    </span>
  );
}

/** What holds for calls of the operation, and commands that call it. */
function Details({ api, operation }: { api: string; operation: SchemaOperation }) {
  const { id, rules = [], upstream, upstreamMissing } = operation;
  return (
    <div className="flex flex-col gap-4">
      {upstreamMissing && (
        <p>No gateway has the upstream {upstream}: callers are answered 502. Add it to <code>upstreams</code> in the environment file and send the process SIGHUP.</p>
      )}
      {rules.length > 0 && (
        <ul aria-label={`Rules of ${id}`} className="flex max-w-4xl list-disc flex-col gap-1 pl-4 marker:text-quiet">
          {rules.map((rule, i) => <li key={i} className="break-words">{rule}</li>)}
        </ul>
      )}
      <Commands api={api} operation={operation} />
    </div>
  );
}

/** Commands that call the operation on this installation. */
function Commands({ api, operation }: { api: string; operation: SchemaOperation }) {
  const status = useStatus();
  const reference = useReference(api, operation.version);
  const example = useMemo(() => requestExample(reference.data && readDocument(reference.data).operations.find((o) => o.id === operation.id)), [reference.data, operation.id]);
  if (!status.data || reference.isPending) return <Skeleton className="h-16 w-full max-w-2xl" />;
  const commands = commandsOf(operation, status.data.listeners, window.location.hostname, example);
  const names = parametersOf(operation);
  if (commands.length === 0) return <p className="text-soft">{operation.passThrough ? "Whatever comes is passed on unchecked; there is no contract to make a command from." : "This node listens to none of its protocols."}</p>;
  return (
    <div className="flex max-w-4xl flex-col gap-2.5">
      <p className="text-soft">
        {operation.anonymous ? (names.length > 0 && "Set first: ") : <>Set first: <code>TOKEN</code>, {operation.kinds?.includes("device") ? "the device's token" : "the app's key"}</>}
        {names.map((name, i) => <span key={name}>{i > 0 || !operation.anonymous ? "; " : ""}<code>{name}</code>{i === 0 && operation.kinds?.includes("device") ? ", the device's id" : ""}</span>)}
        {(names.length > 0 || !operation.anonymous) && "."}
      </p>
      {commands.map(({ protocol, text }) => (
        <div key={protocol} className="flex flex-wrap items-start gap-x-3 gap-y-1">
          <span className="w-16 pt-2"><ProtocolBadge protocol={protocol} /></span>
          <div className="min-w-0 flex-[1_1_260px]"><CopyableCode label={`Command over ${protocol}`} text={text} /></div>
        </div>
      ))}
    </div>
  );
}
