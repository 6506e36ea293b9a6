import { ArrowLeft } from "lucide-react";
import { Link, useParams } from "wouter";
import { Page } from "@/components/Page";
import { useHref } from "@/hooks/url";
import { useApp } from "./api";
import { AppDetail, StateSentence } from "./AppDetail";

/** One app on a page of its own. */
export default function AppPage() {
  const { app = "" } = useParams<{ app: string }>();
  const href = useHref();
  const { data } = useApp(app);
  return (
    <Page
      title={`App ${app}`}
      sentence={data ? <StateSentence app={data.app} /> : undefined}
      actions={
        <Link href={href("/apps")} className="link inline-flex h-8 items-center gap-1.5">
          <ArrowLeft size={16} aria-hidden /> All apps
        </Link>
      }
    >
      <AppDetail key={app} id={app} wide />
    </Page>
  );
}
