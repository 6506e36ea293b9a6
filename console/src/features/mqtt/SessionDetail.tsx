import { Link } from "wouter";
import { asProblem } from "@/api/problem";
import type { SchemaMqttInFlight, SchemaMqttSession, SchemaMqttSessionDetail, SchemaMqttSubscription } from "@/api/schema.gen";
import { Badge, ToneIcon } from "@/components/Badge";
import { Decisions } from "@/components/Decisions";
import { EmptyState, Skeleton } from "@/components/EmptyState";
import { Facts } from "@/components/Facts";
import { Section } from "@/components/Page";
import { PlainTable, type PlainColumn } from "@/components/PlainTable";
import { ProblemNotice } from "@/components/ProblemNotice";
import { Bytes, RelativeTime } from "@/components/values";
import { useHref } from "@/hooks/url";
import { formatCount, plural } from "@/lib/format";
import { useMay } from "@/session/session";
import { hasEnded, useMqttSession } from "./api";
import { SessionActions } from "./SessionActions";
import { Missing } from "./Views";
import { lasting, quoted } from "./words";

/** One session: its subscriptions, its queue, what is in flight, and its will; in the drawer and, wide, on its page. */
export function SessionDetail({ id, wide }: { id: string; wide?: boolean }) {
  const { data, error, refetch } = useMqttSession(id);
  const mayAudit = useMay("audit.read");
  const href = useHref();
  if (hasEnded(error))
    return (
      <EmptyState title="This session has ended.">
        <p className="text-soft">Its client begins a new one when it connects again. See <Link href={href("/mqtt")} className="link">all sessions</Link>.</p>
      </EmptyState>
    );
  if (error && !data) return <ProblemNotice problem={asProblem(error)} onRetry={() => void refetch()} />;
  if (!data) return <Skeleton className="h-60 w-full" />;
  const { session } = data;
  return (
    <div className="flex flex-col gap-4">
      {!wide && <p className="text-base text-pretty"><SessionSentence session={session} /></p>}
      <Missing nodes={data.missing} />
      <SessionActions detail={data} />
      <SessionFacts detail={data} />
      <Section title="Subscriptions" flush>
        {data.subscriptions.length === 0 ? (
          <p className="px-3 py-4 text-soft">It subscribes to nothing: it publishes only, or has not said yet what it wants to hear.</p>
        ) : (
          <PlainTable label={`Subscriptions of ${session.client}`} columns={subscriptionColumns} rows={data.subscriptions} rowKey={(s) => s.filter} />
        )}
        {data.subscriptionsNotShown ? <p className="border-t border-line px-3 py-2 text-quiet">{plural(data.subscriptionsNotShown, "more subscription")} that the gateway does not list.</p> : null}
      </Section>
      <Section title="In flight" flush>
        {data.messages.length === 0 ? (
          <p className="px-3 py-4 text-soft">Nothing that was sent waits for an acknowledgement.</p>
        ) : (
          <PlainTable label={`Messages in flight to ${session.client}`} columns={messageColumns} rows={data.messages} rowKey={(m) => String(m.id)} />
        )}
        {session.inFlight > data.messages.length && <p className="border-t border-line px-3 py-2 text-quiet">The oldest {data.messages.length} of {formatCount(session.inFlight)}.</p>}
      </Section>
      <Decisions target={quoted(session.client)} noun="mqtt-session" may={mayAudit} />
    </div>
  );
}

/** "Connected since 5 min ago; 3 messages wait." */
export function SessionSentence({ session: s }: { session: SchemaMqttSession }) {
  return (
    <>
      {s.connected ? "Connected" : "Away"}{s.since && <>, since <RelativeTime time={s.since} /></>}.{" "}
      {s.queued + s.inFlight === 0 ? "No message waits for it." : <>{plural(s.queued, "message")} {s.queued === 1 ? "waits" : "wait"} for it, {formatCount(s.inFlight)} {s.inFlight === 1 ? "is" : "are"} in flight.</>}
    </>
  );
}

function SessionFacts({ detail: d }: { detail: SchemaMqttSessionDetail }) {
  const { session: s, will } = d;
  const href = useHref();
  const page = s.kind === "device" ? "/devices" : s.kind === "app" ? "/apps" : undefined;
  return (
    <Facts
      facts={[
        ["State", s.connected ? <Badge tone="good">connected</Badge> : <Badge>away</Badge>],
        ["Client id", <code className="break-all">{s.client}</code>],
        ["Caller", page && s.principal ? <Link href={href(`${page}/${encodeURIComponent(s.principal)}`)} className="link font-mono text-xs">{s.principal}</Link> : `${s.kind} ${s.principal}`.trim()],
        ["MQTT", s.version && `version ${s.version}, ${s.keepAlive ? `keep-alive ${s.keepAlive} s` : "no keep-alive"}`],
        ["Source", s.source && <code>{s.source}</code>],
        ["Gateway", <code>{s.node}</code>],
        ["Lasts", `${lasting(s)}${s.kept ? "; it survives a restart of the gateway" : ""}`],
        ["Queue", <span className="tabular">{formatCount(s.queued)} of {plural(d.maxQueued, "message")}, <Bytes bytes={s.queuedBytes} /> of <Bytes bytes={d.maxQueuedBytes} /></span>],
        ["Receiving", d.receiving ? `${plural(d.receiving, "message")} at QoS 2, not released` : undefined],
        ["Will", will && (
          <span className="inline-flex flex-wrap gap-x-2">
            <code className="break-all">{will.topic}</code>
            <span className="text-soft">QoS {will.qos}, <Bytes bytes={will.bytes} />{will.retain && ", retained"}{will.delaySeconds > 0 && `, ${will.delaySeconds} s after its connection`}</span>
          </span>
        )],
      ]}
    />
  );
}

const options = (s: SchemaMqttSubscription) => [s.noLocal && "no local", s.retainAsPublished && "retain as published", s.id && `id ${s.id}`].filter(Boolean).join(", ");

function Filter({ of }: { of: SchemaMqttSubscription }) {
  const href = useHref();
  return (
    <span className="flex flex-col items-start">
      <Link href={href("/mqtt/live", { topic: of.filter })} className="link font-mono text-xs break-all" title="Watch its messages">{of.filter}</Link>
      {of.mute && <span className="inline-flex items-center gap-1 text-xs text-soft"><ToneIcon tone="warning" size={12} /> No contract lets it in any more: nothing is delivered.</span>}
    </span>
  );
}

const subscriptionColumns: readonly PlainColumn<SchemaMqttSubscription>[] = [
  { id: "filter", header: "Filter", cell: (s) => <Filter of={s} /> },
  { id: "qos", header: "QoS", align: "end", cell: (s) => s.qos },
  { id: "options", header: "Options", from: "sm", cell: (s) => options(s) || <span className="text-quiet">none</span> },
];

const messageColumns: readonly PlainColumn<SchemaMqttInFlight>[] = [
  { id: "id", header: "Packet", align: "end", cell: (m) => m.id },
  { id: "topic", header: "Topic", cell: (m) => <code className="break-all">{m.topic}</code> },
  { id: "qos", header: "QoS", align: "end", cell: (m) => m.qos },
  { id: "bytes", header: "Size", align: "end", from: "sm", cell: (m) => <Bytes bytes={m.bytes} /> },
  { id: "step", header: "Step", from: "sm", cell: (m) => (m.released ? "received, not completed" : "not acknowledged") },
];
