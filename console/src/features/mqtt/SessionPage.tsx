import { ArrowLeft } from "lucide-react";
import { Link, useParams } from "wouter";
import { Page } from "@/components/Page";
import { useHref } from "@/hooks/url";
import { hasEnded, useMqttSession } from "./api";
import { SessionDetail, SessionSentence } from "./SessionDetail";

/** One session on a page of its own. */
export default function SessionPage() {
  const { session = "" } = useParams<{ session: string }>();
  const href = useHref();
  const { data, error } = useMqttSession(session);
  return (
    <Page
      title={data ? `Session ${data.session.client}` : "MQTT session"}
      sentence={data && !hasEnded(error) ? <SessionSentence session={data.session} /> : undefined}
      actions={
        <Link href={href("/mqtt")} className="link inline-flex h-8 items-center gap-1.5">
          <ArrowLeft size={16} aria-hidden /> All sessions
        </Link>
      }
    >
      <SessionDetail key={session} id={session} wide />
    </Page>
  );
}
