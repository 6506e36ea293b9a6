import { ArrowLeft } from "lucide-react";
import { Link, useParams } from "wouter";
import { Page } from "@/components/Page";
import { useHref } from "@/hooks/url";
import { AppDetail } from "./AppDetail";

/** One app on a page of its own. */
export default function AppPage() {
  const { app = "" } = useParams<{ app: string }>();
  const href = useHref();
  return (
    <Page
      title={`App ${app}`}
      sentence={<span className="font-mono break-all">{app}</span>}
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
