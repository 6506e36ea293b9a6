import { asProblem } from "@/api/problem";
import { Page } from "@/components/Page";
import { ProblemNotice } from "@/components/ProblemNotice";
import { useEvents } from "@/hooks/events";
import { useStatus } from "@/hooks/status";
import { useSession } from "@/session/session";
import { Attention } from "./Attention";
import { FirstExchange } from "./FirstExchange";
import { LiveFigures } from "./LiveFigures";
import { NowSentence } from "./NowSentence";
import { Timeline } from "./Timeline";
import { TrafficChart } from "./TrafficChart";
import { useFindings } from "./api";

/** What is true now and what needs a person; before the first exchange, how to make one. */
export default function NowPage() {
  const status = useStatus();
  const findings = useFindings();
  const session = useSession();
  const flowing = useEvents((state) => (state.figures?.perSecond ?? 0) > 0);

  const problem = status.error ?? findings.error;
  if (status.data && status.data.exchanges === 0 && !flowing) return <FirstExchange listeners={status.data.listeners} />;
  // The banner of the frame asks for an owner already.
  const warnings = status.data?.warnings.filter((w) => w.code !== "unclaimed" || session.kind !== "setup");
  return (
    <Page title="Now" sentence={<NowSentence warnings={warnings} findings={findings.data} />}>
      {problem && <ProblemNotice problem={asProblem(problem)} onRetry={() => void Promise.all([status.refetch(), findings.refetch()])} />}
      <LiveFigures devices={status.data?.devices} />
      <div className="grid items-start gap-4 lg:grid-cols-[minmax(0,5fr)_minmax(320px,3fr)]">
        <div className="flex min-w-0 flex-col gap-4">
          <Attention warnings={warnings} findings={findings.data} />
          <TrafficChart />
        </div>
        <Timeline />
      </div>
    </Page>
  );
}
