import { ArrowLeft } from "lucide-react";
import { Link, useParams } from "wouter";
import { Page } from "@/components/Page";
import { useHref } from "@/hooks/url";
import { useUpstream } from "./api";
import { UpstreamDetail, UpstreamSentence } from "./UpstreamDetail";

/** One upstream on a page of its own. */
export default function UpstreamPage() {
  const { upstream = "" } = useParams<{ upstream: string }>();
  const href = useHref();
  const { data } = useUpstream(upstream);
  return (
    <Page
      title={`Upstream ${upstream}`}
      sentence={data ? <UpstreamSentence upstream={data} /> : undefined}
      actions={
        <Link href={href("/upstreams")} className="link inline-flex h-8 items-center gap-1.5">
          <ArrowLeft size={16} aria-hidden /> All upstreams
        </Link>
      }
    >
      <UpstreamDetail key={upstream} name={upstream} />
    </Page>
  );
}
