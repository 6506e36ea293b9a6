import { Link } from "wouter";
import type { SchemaLiveFigures, SchemaProtocol } from "@/api/schema.gen";
import { ProtocolBadge, protocols } from "@/components/Badge";
import { classes } from "@/components/class";
import { Figure } from "@/components/Figure";
import { Sparkline } from "@/components/Sparkline";
import { useEvents, useLiveFigures } from "@/hooks/events";
import { useHref } from "@/hooks/url";
import { formatCount, formatRate } from "@/lib/format";
import { onlineFilter } from "./filters";

const most = 60; // seconds
const least = 20; // that the pictures are wide from the beginning
const sparkline = "h-9 max-w-56 min-w-16 flex-1";

/** The three figures, each second anew: exchanges by protocol, devices, refusals. */
export function LiveFigures({ devices }: { devices: number | undefined }) {
  const { figures, history: all } = useLiveFigures();
  const history = all.slice(-most);
  const points = Math.max(history.length, least);
  const lost = useEvents((state) => state.lost); // the banner says how old they are
  const href = useHref();
  const used = protocols.filter((p) => history.some((at) => at.protocols.some((q) => q.protocol === p && q.perSecond > 0)));
  const failed = figures?.failedPerSecond ?? 0;
  return (
    <div className={classes("grid gap-4 md:grid-cols-3", lost && "opacity-60")}>
      <Figure label="Exchanges" unit="a second" value={figures && formatRate(figures.perSecond)} href={href("/traffic")} detail={<ByProtocol figures={figures} of="perSecond" path="/traffic" />}>
        <Sparkline
          className={sparkline}
          points={points}
          label="Exchanges a second by protocol, the last minute"
          series={used.map((protocol) => ({ colour: protocol, values: history.map((at) => figureOf(at, protocol)) }))}
        />
      </Figure>
      <Figure
        label="Devices online"
        unit={devices === undefined ? undefined : `of ${formatCount(devices)}`}
        value={figures && formatCount(figures.devicesOnline)}
        href={href("/devices", { filter: onlineFilter, order: "seen" })}
        detail={<ByProtocol figures={figures} of="devicesOnline" path="/devices" filter={onlineFilter} />}
      >
        <Sparkline className={sparkline} points={points} label="Devices online, the last minute" series={[{ colour: "accent", values: history.map((at) => at.devicesOnline) }]} />
      </Figure>
      <Figure
        label="Denied"
        unit="a second"
        value={figures && formatRate(figures.refusedPerSecond)}
        href={href("/traffic", { filter: "status:denied" })}
        detail={
          figures && (
            <Link href={href("/traffic", { filter: "status:failed" })} className="relative z-10 inline-flex h-6 items-center hover:text-text hover:underline">
              {failed === 0 ? "No failures" : `and ${formatRate(failed)} failed`}
            </Link>
          )
        }
      >
        <Sparkline className={sparkline} points={points} label="Refusals a second, the last minute" series={[{ colour: "warning", values: history.map((at) => at.refusedPerSecond) }]} />
      </Figure>
    </div>
  );
}

function figureOf(figures: SchemaLiveFigures, protocol: SchemaProtocol): number {
  return figures.protocols.find((p) => p.protocol === protocol)?.perSecond ?? 0;
}

function ByProtocol({ figures, of, path, filter = "" }: {
  figures: SchemaLiveFigures | undefined;
  of: "perSecond" | "devicesOnline";
  path: string;
  filter?: string;
}) {
  const href = useHref();
  return protocols.map((protocol) => {
    const value = figures?.protocols.find((p) => p.protocol === protocol)?.[of];
    if (!value) return null;
    return (
      <Link key={protocol} href={href(path, { filter: `protocol:${protocol} ${filter}`.trim() })} className="relative z-10 inline-flex h-6 items-center gap-1.5 hover:underline">
        <ProtocolBadge protocol={protocol} />
        {of === "perSecond" ? formatRate(value) : formatCount(value)}
      </Link>
    );
  });
}
