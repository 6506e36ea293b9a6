import { lazy, Suspense } from "react";
import { Link } from "wouter";
import { Skeleton } from "@/components/EmptyState";
import { Page } from "@/components/Page";
import { Tabs } from "@/components/Tabs";
import { useHref } from "@/hooks/url";
import { formatSpan, plural } from "@/lib/format";
import { useMay } from "@/session/session";
import { Account } from "./Account";
import { useOperators, useStatus } from "./api";
import { Audit } from "./Audit";
import { Installation } from "./Installation";
import { Operators } from "./Operators";
import { Sessions } from "./Sessions";
import { Tokens } from "./Tokens";

const About = lazy(() => import("./About"));

/** Who may decide, who did what, and how this installation is. */
export default function SettingsPage() {
  const audit = useMay("audit.read");
  return (
    <Page title="Settings" sentence={<SettingsSentence />}>
      <Tabs
        label="Settings"
        tabs={[
          { value: "operators", label: "Operators", content: <Operators /> },
          { value: "tokens", label: "API tokens", content: <Tokens /> },
          { value: "sessions", label: "Sessions", content: <Sessions /> },
          ...(audit ? [{ value: "audit", label: "Audit log", content: <Audit /> }] : []),
          { value: "installation", label: "Installation", content: <Installation /> },
          { value: "account", label: "My account", content: <Account /> },
          { value: "about", label: "About", content: <Suspense fallback={<Skeleton className="h-80 w-full" />}><About /></Suspense> },
        ]}
      />
    </Page>
  );
}

/** "demo has run for 3 h without a restart. 2 operators may decide; 2 warnings need a look." */
function SettingsSentence() {
  const status = useStatus();
  const operators = useOperators();
  const href = useHref();
  if (!status.data || operators.loading) return <Skeleton className="my-1.5 h-3 w-96 max-w-full" />;
  const { node, version, startedAt, warnings, health } = status.data;
  const active = operators.rows.filter((o) => o.state === "active").length;
  const open = warnings.length + health.length;
  return (
    <>
      {node} runs Fieldgate {version} for {formatSpan(Date.now() - new Date(startedAt).getTime())}.{" "}
      {active > 0 && <><Link href={href("/settings")} className="link">{plural(active, "operator")}</Link> may decide. </>}
      {open > 0 ? (
        <><Link href={href("/settings", { tab: "installation" })} className="link">{plural(open, "warning")}</Link> {open === 1 ? "needs" : "need"} a look.</>
      ) : "Nothing is stale or out of reach."}
    </>
  );
}
