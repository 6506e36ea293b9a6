import { CircleStop, Radio, Trash2 } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { address } from "@/api/client";
import type { SchemaLiveMessage } from "@/api/schema.gen";
import { Button } from "@/components/Button";
import { EmptyState } from "@/components/EmptyState";
import { ClockTime } from "@/components/Outcome";
import { Page } from "@/components/Page";
import { Bytes } from "@/components/values";
import { useEventSource } from "@/hooks/events";
import { useHotkeys } from "@/hooks/hotkeys";
import { useUrlParam } from "@/hooks/url";
import { formatCount, plural } from "@/lib/format";
import { useMay, useSession } from "@/session/session";
import { MessageBody } from "./MessageBody";
import { TopicFilterBar } from "./TopicFilterBar";
import { Missing, Views } from "./Views";

const kept = 300; // messages on the page
const tick = 250; // ms between two changes of the list

interface Heard extends SchemaLiveMessage {
  number: number;
}

/** Messages as they are published, while one watches. */
export default function LivePage() {
  const [topic, setTopic] = useUrlParam("topic");
  const [watching, setWatching] = useState(false);
  const may = useMay("devices.write");
  const { role } = useSession();
  useHotkeys(may ? [{ keys: "w", label: "Watch messages, or stop", run: () => setWatching(!watching) }] : []);
  return (
    <Page title="Live messages" sentence={watching ? <>Watching <code className="break-all">{topic || "#"}</code>. That you do stands in the audit log.</> : "Messages as they are published, while you watch; nothing of them is kept."}>
      <Views here="/mqtt/live" />
      <TopicFilterBar text={topic} onChange={(text) => { setTopic(text); setWatching(may); }} action="Watch">
        {watching && <Button icon={CircleStop} onClick={() => setWatching(false)}>Stop</Button>}
      </TopicFilterBar>
      {watching ? (
        <Messages key={topic} topic={topic} />
      ) : (
        <EmptyState title="Nobody watches.">
          {may ? (
            <>
              <p className="text-soft">
                Write a topic filter, or watch all topics. Values that a contract says are secret are taken out before they leave the gateway; of topics that no contract explains only the topic is shown. That you watch stands in the audit log.
              </p>
              <Button icon={Radio} kind="primary" onClick={() => setWatching(true)}>Watch {topic ? <code>{topic}</code> : "all topics"}</Button>
            </>
          ) : (
            <p className="text-soft">The role {role} may not look at payloads; ask an operator or owner.</p>
          )}
        </EmptyState>
      )}
    </Page>
  );
}

function Messages({ topic }: { topic: string }) {
  const [messages, setMessages] = useState<readonly Heard[]>([]);
  const [total, setTotal] = useState(0);
  const [leftOut, setLeftOut] = useState(0);
  const [listening, setListening] = useState<{ nodes: string[]; missing: string[] }>();
  const incoming = useRef<Heard[]>([]);
  const count = useRef(0);
  const { connected } = useEventSource(address("/api/v1/mqtt/messages/stream", {}, { topic }), {
    message: (data) => {
      incoming.current.unshift({ ...(data as SchemaLiveMessage), number: ++count.current });
      if (incoming.current.length > kept) incoming.current.length = kept;
    },
    "left-out": (data) => setLeftOut((n) => n + (data as { count: number }).count),
    listening: (data) => setListening(data as { nodes: string[]; missing: string[] }),
  });
  useEffect(() => {
    const timer = setInterval(() => {
      if (incoming.current.length === 0) return;
      const fresh = incoming.current;
      incoming.current = [];
      setMessages((old) => [...fresh, ...old].slice(0, kept));
      setTotal(count.current);
    }, tick);
    return () => clearInterval(timer);
  }, []);
  // Gateways that have only just been asked are not missing yet.
  const missing = listening && listening.nodes.length > 0 ? listening.missing : [];
  return (
    <div className="flex flex-col gap-3">
      <Missing nodes={missing} />
      <div className="flex flex-wrap items-center gap-3">
        <p role="status" className="flex-1 tabular text-soft">
          {connected ? (listening?.nodes.length ? `Listening on ${plural(listening.nodes.length, "gateway")}` : "Asking the gateways") : "Not connected; trying again"}: {plural(total, "message")}
          {leftOut > 0 && `, ${formatCount(leftOut)} more left out because they came too fast`}.
        </p>
        <Button icon={Trash2} kind="quiet" disabled={messages.length === 0} onClick={() => setMessages([])}>Clear</Button>
      </div>
      {messages.length === 0 ? (
        <p className="rounded border border-line bg-surface px-3 py-6 text-soft">Nothing has been published on it since you watch.</p>
      ) : (
        <ol className="rounded border border-line bg-surface" aria-label="Messages, the newest first">
          {messages.map((m) => <Message key={m.number} message={m} />)}
        </ol>
      )}
    </div>
  );
}

function Message({ message: m }: { message: Heard }) {
  const name = m.topic || "a topic with a secret in it";
  return (
    <li className="flex flex-col gap-1.5 border-t border-line px-3 py-2 first:border-t-0">
      <div className="flex flex-wrap items-baseline gap-x-3 gap-y-0.5">
        {m.publishedAt && <span className="text-xs text-quiet"><ClockTime time={m.publishedAt} /></span>}
        <code className="min-w-0 flex-1 break-all">{name}</code>
        <span className="text-xs text-quiet">
          {m.principal && <><code>{m.principal}</code> · </>}QoS {m.qos}{m.retain && " · retained"} · <Bytes bytes={m.bytes} />
        </span>
      </div>
      <MessageBody content={m.content} label={`Payload of message ${m.number} on ${name}`} />
    </li>
  );
}
