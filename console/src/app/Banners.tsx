import type { ReactNode } from "react";
import { ToneIcon, type Tone } from "@/components/Badge";
import { Button } from "@/components/Button";
import { classes } from "@/components/class";
import { RelativeTime } from "@/components/values";
import { useClock } from "@/hooks/clock";
import { useEvents } from "@/hooks/events";
import { formatSpan } from "@/lib/format";
import { useSession } from "@/session/session";

/** What must not be overlooked on any page: data that is old, parts that are out of reach, an installation without an owner. */
export function Banners({ onClaim }: { onClaim: () => void }) {
  const health = useEvents((state) => state.health);
  const session = useSession();
  return (
    <div role="status">
      <ConnectionLost />
      {health.map((item) => (
        <Banner key={`${item.part} ${item.node ?? ""}`} tone="warning">
          {item.message} Since <RelativeTime time={item.since} />.
        </Banner>
      ))}
      {session.kind === "setup" && (
        <Banner tone="notice" action={<Button kind="primary" onClick={onClaim}>Create your account</Button>}>
          Nobody owns this installation yet. It listens on this machine only until it has an owner.
        </Banner>
      )}
    </div>
  );
}

function ConnectionLost() {
  const lost = useEvents((state) => state.lost);
  const heardAt = useEvents((state) => state.heardAt);
  const age = useClock((now) => (lost && heardAt > 0 ? formatSpan(now - heardAt) : ""));
  if (!lost) return null;
  return <Banner tone="warning">The connection to the node is lost; it is tried again by itself. {age && `What you see is ${age} old.`}</Banner>;
}

const tints: Partial<Record<Tone, string>> = { warning: "bg-warning-tint", notice: "bg-notice-tint" };

function Banner({ tone, action, children }: { tone: Tone; action?: ReactNode; children: ReactNode }) {
  return (
    <div className={classes("flex min-h-10 items-center gap-x-2.5 gap-y-1 border-b border-line px-3 py-1 max-sm:flex-wrap max-sm:py-2 lg:px-6", tints[tone])}>
      <ToneIcon tone={tone} />
      <p className="min-w-0 flex-1 max-sm:min-w-64">{children}</p>
      {action}
    </div>
  );
}
