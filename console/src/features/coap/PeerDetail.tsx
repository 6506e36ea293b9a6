import { Link } from "wouter";
import { asProblem } from "@/api/problem";
import type { SchemaCoapObservation, SchemaCoapPeer, SchemaCoapTransfer } from "@/api/schema.gen";
import { EmptyState, Skeleton } from "@/components/EmptyState";
import { Facts } from "@/components/Facts";
import { Section } from "@/components/Page";
import { PlainTable, type PlainColumn } from "@/components/PlainTable";
import { ProblemNotice } from "@/components/ProblemNotice";
import { RelativeTime } from "@/components/values";
import { useHref } from "@/hooks/url";
import { credentialWords, sessionNoun, transportOf } from "@/lib/coap";
import { formatCount, plural } from "@/lib/format";
import { isForgotten, usePeer } from "./api";
import { EndObservation } from "./EndObservation";
import { EndSession } from "./EndSession";
import { Caller, Progress } from "./Views";

/** One peer: who it is, what it observes, and what is on its way; in the drawer and, wide, on its page. */
export function PeerDetail({ id, wide }: { id: string; wide?: boolean }) {
  const { data, error, refetch } = usePeer(id);
  const href = useHref();
  if (isForgotten(error))
    return (
      <EmptyState title="The gateway has forgotten this peer.">
        <p className="text-soft">It is known again with its next request. See <Link href={href("/coap")} className="link">all peers</Link>.</p>
      </EmptyState>
    );
  if (error && !data) return <ProblemNotice problem={asProblem(error)} onRetry={() => void refetch()} />;
  if (!data) return <Skeleton className="h-60 w-full" />;
  const { peer, observations, transfers } = data;
  return (
    <div className="flex flex-col gap-4">
      {!wide && <p className="text-base text-pretty"><PeerSentence peer={peer} /></p>}
      {peer.openedAt && <EndSession of={peer} />}
      <Facts
        facts={[
          ["Source", <code>{peer.source}</code>],
          ["Caller", <Caller of={peer} />],
          ["Transport", <>{transportOf(peer.listener)} <span className="text-quiet">(listener <code>{peer.listener}</code>)</span></>],
          ["Credential", credentialWords(peer.credential)],
          [capital(sessionNoun(peer.listener)), peer.openedAt && <>since <RelativeTime time={peer.openedAt} /></>],
          ["Cipher", peer.cipher && <code className="break-all">{peer.cipher}</code>],
          ["Connection ID", peer.listener === "coaps" && (peer.connectionId ? "yes: the session goes on when the address changes" : "no: the session is lost when the address changes")],
          ["Address", peer.verified ? "verified: it has returned what only it can have received" : "not verified: it is sent at most three times what it sends, unless it shows a credential"],
          ["Gateway", <code>{peer.node}</code>],
          ["Not answered", `${plural(peer.requests, "request")} of it, ${formatCount(peer.calls)} of the gateway`],
        ]}
      />
      <Section title="Observations" flush>
        {observations.length === 0 ? (
          <p className="px-3 py-4 text-soft">It observes nothing.</p>
        ) : (
          <PlainTable label={`Observations of ${peer.source}`} columns={observationColumns} rows={observations} rowKey={(o) => o.id} />
        )}
      </Section>
      <Section title="Block transfers" flush>
        {transfers.length === 0 ? (
          <p className="px-3 py-4 text-soft">No body is on its way.</p>
        ) : (
          <PlainTable label={`Block transfers of ${peer.source}`} columns={transferColumns} rows={transfers} rowKey={(t) => `${t.method} ${t.path} ${t.upload}`} />
        )}
      </Section>
    </div>
  );
}

const capital = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);

/** "Heard 5 min ago; it observes 2 resources." */
export function PeerSentence({ peer: p }: { peer: SchemaCoapPeer }) {
  return (
    <>
      {p.heardAt ? <>Heard <RelativeTime time={p.heardAt} /></> : "Not heard yet"}; it observes {p.observations === 0 ? "nothing" : plural(p.observations, "resource")}
      {p.transfers > 0 && <>, and {plural(p.transfers, "body", "bodies")} {p.transfers === 1 ? "is" : "are"} on the way</>}.
    </>
  );
}

const observationColumns: readonly PlainColumn<SchemaCoapObservation>[] = [
  { id: "path", header: "Path", cell: (o) => <code className="break-all">{o.path}</code> },
  { id: "since", header: "Since", from: "sm", cell: (o) => <RelativeTime time={o.since} /> },
  { id: "sent", header: "Notifications", align: "end", cell: (o) => <span title={o.waiting ? "the newest is not acknowledged yet" : undefined}>{formatCount(o.sent)}</span> },
  { id: "end", header: "Decide", align: "end", cell: (o) => <EndObservation of={o} /> },
];

const transferColumns: readonly PlainColumn<SchemaCoapTransfer>[] = [
  { id: "path", header: "Path", cell: (t) => <><span className="text-soft">{t.method}</span> <code className="break-all">{t.path}</code></> },
  { id: "direction", header: "Direction", from: "sm", cell: (t) => (t.upload ? "from it" : "to it") },
  { id: "bytes", header: "Size", align: "end", cell: (t) => <Progress of={t} /> },
  { id: "used", header: "Newest block", from: "sm", cell: (t) => <RelativeTime time={t.usedAt} /> },
];
