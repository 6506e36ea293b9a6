import { ArrowUp, Pause, Radio, Unplug } from "lucide-react";
import { useEffect, useMemo, useState } from "react";
import { Link } from "wouter";
import type { SchemaTrafficRecord } from "@/api/schema.gen";
import { ProtocolBadge, protocols } from "@/components/Badge";
import { Button } from "@/components/Button";
import { Drawer } from "@/components/Drawer";
import { EmptyRow } from "@/components/EmptyRow";
import { EmptyState } from "@/components/EmptyState";
import { FilterBar } from "@/components/FilterBar";
import { Asked, ClockTime, Outcome, whyOf } from "@/components/Outcome";
import { Page } from "@/components/Page";
import { Table, type Column } from "@/components/Table";
import { Duration } from "@/components/values";
import { useDrawer } from "@/hooks/drawer";
import { useHotkeys } from "@/hooks/hotkeys";
import { useTail } from "@/hooks/tail";
import { useFilter, useHereHref, useHref, useRange } from "@/hooks/url";
import type { FilterField } from "@/lib/filter";
import { formatCount } from "@/lib/format";
import { ExchangeDetail } from "./ExchangeDetail";
import { TrafficSentence } from "./TrafficSentence";
import { ViewLinks } from "./ViewLinks";
import { rememberList } from "./walk";

const findingNames = ["undocumented", "unmatched", "invalid-request", "invalid-response", "shadowed", "unauthenticated", "forbidden", "not-owner",
  "quarantined", "revoked", "rate-limited", "deprecated", "retired", "upstream", "malformed", "dropped"];

const statuses = ["ok", "denied", "failed", "2xx", "3xx", "4xx", "5xx", "200", "201", "202", "204", "206", "301", "302", "303", "304", "307", "308", "400", "401", "402", "403",
  "404", "405", "406", "408", "409", "410", "411", "412", "413", "414", "415", "416", "417", "418", "421", "422", "423", "424", "425", "426", "428", "429",
  "431", "451", "500", "501", "502", "503", "504", "505", "507", "508", "511"];

const fields: readonly FilterField[] = [
  { key: "protocol", help: "how it came", values: protocols },
  { key: "status", help: "ok, denied, failed, or a number such as 404 or 4xx", values: statuses },
  { key: "device", help: "a device's id, such as pump-17 or pump-*" },
  { key: "app", help: "an app's id" },
  { key: "principal", help: "a device or app" },
  { key: "api", help: "such as thermo" },
  { key: "operation", help: "such as sendTelemetry" },
  { key: "problem", help: "why it was refused, such as rate-limited" },
  { key: "finding", help: "what was found", values: findingNames },
  { key: "model", help: "of the device" },
  { key: "firmware", help: "of the device" },
  { key: "version", help: "of the API" },
  { key: "kind", help: "who called", values: ["device", "app", "anonymous", "foreign"] },
  { key: "node", help: "the gateway" },
  { key: "since", help: "such as 15m; otherwise the page's range" },
];

const columns: readonly Column<SchemaTrafficRecord>[] = [
  { id: "time", header: "Time", width: "92px", cell: (e) => <ClockTime time={e.time} /> },
  { id: "protocol", header: "Protocol", width: "88px", from: 640, cell: (e) => <ProtocolBadge protocol={e.protocol} /> },
  { id: "what", header: "Operation or route", width: "minmax(110px, 2fr)", cell: (e) => <Asked exchange={e} /> },
  { id: "who", header: "Caller", width: "minmax(110px, 1.3fr)", from: 560, cell: (e) => <Caller exchange={e} /> },
  { id: "status", header: "Outcome", width: "96px", cell: (e) => <Outcome status={e.status} /> },
  { id: "why", header: "Rule or finding", width: "minmax(130px, 1.8fr)", from: 820, cell: (e) => <span className="text-soft" title={whyOf(e)}>{whyOf(e)}</span> },
  { id: "took", header: "Took", width: "72px", align: "end", from: 480, cell: (e) => <Duration micros={e.durationMicros} /> },
];

function Caller({ exchange: { principal, kind } }: { exchange: SchemaTrafficRecord }) {
  const href = useHref();
  if (!principal) return <span className="text-quiet">{kind || "unknown"}</span>;
  const page = kind === "device" ? "/devices" : kind === "app" ? "/apps" : undefined;
  if (!page) return <span className="font-mono text-xs">{principal}</span>;
  return (
    <Link href={href(`${page}/${encodeURIComponent(principal)}`)} className="relative z-10 font-mono text-xs hover:underline">
      {principal}
    </Link>
  );
}

/** The live tail: it comes in at the top, and holds still while one reads. */
export function Exchanges() {
  const { text, setText, inRange } = useFilter();
  const { live } = useRange(); // the frame has the switch, and its key
  const [atTop, setAtTop] = useState(true);
  const here = useHereHref();
  const href = useHref();
  const [keys, setKeys] = useState<readonly string[]>([]);
  const drawer = useDrawer(keys, (instance) => `/traffic/${encodeURIComponent(instance)}`);
  const reading = !atTop || drawer.open !== "";
  const tail = useTail(inRange, text, reading || !live);
  const { rows } = tail.pages;
  useEffect(() => {
    const instances = rows.map((e) => e.instance);
    setKeys(instances);
    rememberList(instances);
  }, [rows]);
  const known = useMemo(() => rows.find((e) => e.instance === drawer.open), [rows, drawer.open]);
  const release = () => {
    tail.release();
    document.querySelector('[role="table"][aria-label="Exchanges"]')?.scrollTo({ top: 0 });
  };
  useHotkeys([
    { keys: "]", label: "Older exchange", run: drawer.next },
    { keys: "[", label: "Newer exchange", run: drawer.previous },
    { keys: ".", label: "Show the newest exchanges", run: release },
  ]);

  return (
    <Page
      title="Traffic"
      fill
      sentence={<TrafficSentence />}
      drawer={
        drawer.open && (
          <Drawer
            width="wide"
            title="Exchange"
            subtitle={<span className="font-mono text-xs">{drawer.open}</span>}
            page={href(`/traffic/${encodeURIComponent(drawer.open)}`)}
            onClose={drawer.close}
            onNext={drawer.next}
            onPrevious={drawer.previous}
          >
            <ExchangeDetail key={drawer.open} instance={drawer.open} known={known} />
          </Drawer>
        )
      }
    >
      <ViewLinks view="exchanges" />
      <div className="flex flex-wrap items-start gap-2">
        <div className="min-w-0 flex-[1_1_280px]">
          <FilterBar fields={fields} text={text} onChange={setText} placeholder="Filter: protocol:mqtt status:denied device:pump-17" />
        </div>
        <TailState held={tail.held} left={tail.left} connected={tail.connected} live={live} onRelease={release} />
      </div>
      <Table
        label="Exchanges"
        density="compact"
        columns={columns}
        pages={tail.pages}
        rowKey={(e) => e.instance}
        rowHref={(e) => here({ open: e.instance, capture: "" })}
        open={drawer.open}
        onTop={setAtTop}
        empty={<EmptyRow><NoExchanges filtered={text !== ""} /></EmptyRow>}
      />
    </Page>
  );
}

/** Whether the list moves, and what waits. */
function TailState({ held, left, connected, live, onRelease }: { held: number; left: number; connected: boolean; live: boolean; onRelease: () => void }) {
  if (held > 0) {
    return (
      <Button icon={ArrowUp} className="tabular" onClick={onRelease} title="Show them (.)">
        Paused · {formatCount(held)} new
      </Button>
    );
  }
  if (connected && live && left === 0) return null;
  const [Icon, words] = !connected ? ([Unplug, "Reconnecting"] as const) : live ? ([Radio, "Live"] as const) : ([Pause, "Paused"] as const);
  return (
    <p role="status" className="inline-flex h-8 items-center gap-1.5 px-1 text-soft">
      <Icon size={14} className="text-icon" aria-hidden />
      {words}
      {left > 0 && <span title="This browser was too slow for them; they are in the figures all the same.">, {formatCount(left)} left out</span>}
    </p>
  );
}

function NoExchanges({ filtered }: { filtered: boolean }) {
  const href = useHref();
  if (filtered) {
    return (
      <EmptyState title="Nothing fits among the newest exchanges.">
        <p className="text-soft">
          New ones that fit show here as they come. A bounded number is kept; the <Link href={href("/traffic", { view: "operations" })} className="link">figures by operation</Link> look further back.
        </p>
      </EmptyState>
    );
  }
  return (
    <EmptyState title="Nothing has passed yet.">
      <p className="text-soft">
        Exchanges show here as they happen, those that are refused too, with the rule that refused them. <Link href={href("/devices")} className="link">Add a device</Link> and send something.
      </p>
    </EmptyState>
  );
}
