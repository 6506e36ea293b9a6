import { Link } from "wouter";
import type { SchemaFindingPage, SchemaWarning } from "@/api/schema.gen";
import { Skeleton } from "@/components/EmptyState";
import { useLiveFigures } from "@/hooks/events";
import { useHref } from "@/hooks/url";
import { formatCount, formatRate } from "@/lib/format";
import { onlineFilter } from "./filters";

/** "212 devices are online and make 48.2 exchanges a second. 3 things need a look, 1 of them now." */
export function NowSentence({ warnings, findings }: { warnings: readonly SchemaWarning[] | undefined; findings: SchemaFindingPage | undefined }) {
  const { figures } = useLiveFigures();
  const href = useHref();
  if (!figures) return <Skeleton className="my-1.5 h-3 w-80 max-w-full" />;
  const online = figures.devicesOnline;
  return (
    <>
      <Link href={href("/devices", { filter: onlineFilter, order: "seen" })} className="link">
        {online === 0 ? "No device" : online === 1 ? "1 device" : `${formatCount(online)} devices`}
      </Link>{" "}
      {online === 1 || online === 0 ? "is" : "are"} online, with{" "}
      <Link href={href("/traffic")} className="link">
        {formatRate(figures.perSecond)} exchanges a second
      </Link>
      . {warnings && findings && <Needs warnings={warnings} findings={findings} />}
    </>
  );
}

function Needs({ warnings, findings }: { warnings: readonly SchemaWarning[]; findings: SchemaFindingPage }) {
  const severities = [...findings.items, ...warnings].map((item) => item.severity);
  const count = severities.filter((s) => s !== "notice").length;
  const bad = severities.filter((s) => s === "bad").length;
  const more = findings.items.length > 0 && findings.next && findings.items.at(-1)!.severity !== "notice" ? "+" : "";
  if (count === 0) return <>Nothing needs you.</>;
  return (
    <>
      <a href="#attention" className="link">
        {count === 1 && !more ? "1 thing" : `${count}${more} things`}
      </a>{" "}
      {count === 1 && !more ? "needs" : "need"} a look{bad > 0 && bad < count && <>, {bad} of them urgently</>}
      {bad > 0 && bad === count && <> urgently</>}.
    </>
  );
}
