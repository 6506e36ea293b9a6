import { Link } from "wouter";
import { Skeleton } from "@/components/EmptyState";
import { useLiveFigures } from "@/hooks/events";
import { useHref } from "@/hooks/url";
import { formatRate } from "@/lib/format";
import { problemWords } from "@/lib/words";
import { filterOf, useRefusals } from "./api";

/** "111 exchanges a second. 13.4 a second are denied, most of them because: too many requests." */
export function TrafficSentence() {
  const { figures } = useLiveFigures();
  const { data } = useRefusals();
  const href = useHref();
  if (!figures) return <Skeleton className="my-1.5 h-3 w-80 max-w-full" />;
  const [most] = data?.problems ?? [];
  const { perSecond, refusedPerSecond, failedPerSecond } = figures;
  if (perSecond === 0) return "Nothing passes now.";
  return (
    <>
      <Link href={href("/traffic")} className="link">{formatRate(perSecond)} exchanges</Link> a second.{" "}
      {refusedPerSecond === 0 ? "None is denied. " : (
        <>
          <Link href={href("/traffic", { filter: "status:denied" })} className="link">{formatRate(refusedPerSecond)}</Link> a second are denied
          {most && (
            <>
              , most often because of “<Link href={href("/traffic", { filter: filterOf({ problem: most.name }) })} className="link">{problemWords(most.name).title.toLowerCase()}</Link>”
            </>
          )}
          .{" "}
        </>
      )}
      {failedPerSecond > 0 && (
        <>
          <Link href={href("/traffic", { filter: "status:failed" })} className="link">{formatRate(failedPerSecond)}</Link> fail.
        </>
      )}
    </>
  );
}
