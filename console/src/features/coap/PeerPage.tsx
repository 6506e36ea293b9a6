import { ArrowLeft } from "lucide-react";
import { Link, useParams } from "wouter";
import { Page } from "@/components/Page";
import { useHref } from "@/hooks/url";
import { isForgotten, usePeer } from "./api";
import { PeerDetail, PeerSentence } from "./PeerDetail";

/** One peer on a page of its own. */
export default function PeerPage() {
  const { peer = "" } = useParams<{ peer: string }>();
  const href = useHref();
  const { data, error } = usePeer(peer);
  return (
    <Page
      title={data ? `Peer ${data.peer.source}` : "CoAP peer"}
      sentence={data && !isForgotten(error) ? <PeerSentence peer={data.peer} /> : undefined}
      actions={
        <Link href={href("/coap")} className="link inline-flex h-8 items-center gap-1.5">
          <ArrowLeft size={16} aria-hidden /> All peers
        </Link>
      }
    >
      <PeerDetail key={peer} id={peer} wide />
    </Page>
  );
}
