import { Link } from "wouter";
import { asProblem } from "@/api/problem";
import type { SchemaApp } from "@/api/schema.gen";
import { ProtocolBadge, StateBadge, ToneIcon } from "@/components/Badge";
import { Decisions } from "@/components/Decisions";
import { Skeleton } from "@/components/EmptyState";
import { Facts } from "@/components/Facts";
import { Section } from "@/components/Page";
import { ProblemNotice } from "@/components/ProblemNotice";
import { RecentExchanges } from "@/components/RecentExchanges";
import { RelativeTime } from "@/components/values";
import { useHref } from "@/hooks/url";
import { formatCount, plural } from "@/lib/format";
import { problemWords } from "@/lib/words";
import { useMay } from "@/session/session";
import { useApp, useKnownScopes } from "./api";
import { AppActions } from "./AppActions";

/** What is known of one app, and what can be decided about it; in the drawer and, wide, on its page. */
export function AppDetail({ id, wide }: { id: string; wide?: boolean }) {
  const { data, error, refetch } = useApp(id);
  const mayAudit = useMay("audit.read");
  if (error && !data) return <ProblemNotice problem={asProblem(error)} onRetry={() => void refetch()} />;
  if (!data) {
    return (
      <div className="flex h-96 flex-col gap-5">
        <Skeleton className="h-4 w-1/2" />
        <Skeleton className="h-8 w-2/3" />
        <Skeleton className="h-3 w-1/3" />
        <Skeleton className="h-32 w-full" />
      </div>
    );
  }
  const { app } = data;
  const recent = <RecentExchanges filter={`app:${id}`} none="None of the newest exchanges is its own; they are kept in memory, a bounded number of them." />;
  const decisions = <Decisions target={id} noun="app" may={mayAudit} />;
  return (
    <div className="flex flex-col gap-4">
      {!wide && <p className="text-base text-pretty"><StateSentence app={app} /></p>}
      <AppActions seen={data} />
      <LastRefusal app={app} />
      {wide ? (
        <div className="grid items-start gap-4 lg:grid-cols-[minmax(300px,2fr)_minmax(0,3fr)]">
          <div className="flex min-w-0 flex-col gap-4">
            <Section title="Identity"><AppFacts app={app} /></Section>
            {decisions}
          </div>
          {recent}
        </div>
      ) : (
        <>
          <AppFacts app={app} />
          {recent}
          {decisions}
        </>
      )}
    </div>
  );
}

/** "Active; last seen 4 s ago." */
export function StateSentence({ app }: { app: SchemaApp }) {
  if (app.state === "revoked") return <>Shut out for good. Its id is not given again.</>;
  if (app.keys === 0) return <>Active, but without a valid key: it cannot say who it is. Issue one.</>;
  if (!app.presence) return <>Active, and never seen yet.</>;
  return <>Active; last seen <RelativeTime time={app.presence.seenAt} />.</>;
}

function AppFacts({ app }: { app: SchemaApp }) {
  const href = useHref();
  const { presence } = app;
  const traffic = (filter: string, text: string) => (
    <Link href={href("/traffic", { filter: `app:${app.id}${filter}` })} className="link tabular">{text}</Link>
  );
  return (
    <Facts
      facts={[
        ["State", <StateBadge state={app.state} />],
        ["Name", app.name],
        ["Scopes", <Scopes app={app} />],
        ["Keys", app.keys === 0 ? "none is valid" : `${plural(app.keys, "valid key")}; only hashes are kept`],
        ["Last seen", presence ? <RelativeTime time={presence.seenAt} /> : "never"],
        ["By", presence && (
          <span className="inline-flex flex-wrap gap-x-2">
            <ProtocolBadge protocol={presence.protocol} />
            {presence.source && <span>from <code>{presence.source}</code></span>}
            {presence.node && <span>at <code>{presence.node}</code></span>}
          </span>
        )],
        ["Today", presence && (
          <>
            {traffic("", plural(presence.exchangesToday, "exchange"))}
            {presence.refusedToday > 0 && <>, {traffic(" status:denied", `${formatCount(presence.refusedToday)} refused`)}</>}
          </>
        )],
        ["Registered", <RelativeTime time={app.createdAt} />],
        ["Changed", app.updatedAt !== app.createdAt && <RelativeTime time={app.updatedAt} />],
      ]}
    />
  );
}

/** Its scopes, each with the operations that it opens. */
function Scopes({ app }: { app: SchemaApp }) {
  const known = useKnownScopes();
  if (app.scopes.length === 0) return <>none: it may call only what asks for no scope</>;
  return (
    <ul>
      {app.scopes.map((scope) => {
        const operations = known.data?.find((k) => k.scope === scope)?.operations;
        return (
          <li key={scope}>
            <code>{scope}</code>{" "}
            {known.data && <span className="text-quiet">{operations ? operations.join(", ") : "no contract asks for it"}</span>}
          </li>
        );
      })}
    </ul>
  );
}

function LastRefusal({ app: { id, presence } }: { app: SchemaApp }) {
  const href = useHref();
  if (!presence?.refusedAt || !presence.problem) return null;
  const words = problemWords(presence.problem);
  return (
    <div className="flex gap-2.5 rounded border border-line bg-sunken px-3 py-2.5">
      <span className="mt-px"><ToneIcon tone="warning" /></span>
      <div className="flex min-w-0 flex-col gap-0.5">
        <p className="font-medium">Last refused <RelativeTime time={presence.refusedAt} />: {words.title}</p>
        <p className="text-soft">{words.remedy}</p>
        <p className="text-xs"><Link href={href("/traffic", { filter: `app:${id} status:denied` })} className="link">Its refusals</Link></p>
      </div>
    </div>
  );
}
