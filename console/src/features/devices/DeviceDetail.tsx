import { Link } from "wouter";
import { asProblem } from "@/api/problem";
import type { SchemaDevice } from "@/api/schema.gen";
import { ProtocolBadge, StateBadge, ToneIcon } from "@/components/Badge";
import { Decisions } from "@/components/Decisions";
import { Skeleton } from "@/components/EmptyState";
import { Facts } from "@/components/Facts";
import { whyOf } from "@/components/Outcome";
import { Section } from "@/components/Page";
import { ProblemNotice } from "@/components/ProblemNotice";
import { RecentExchanges } from "@/components/RecentExchanges";
import { RelativeTime } from "@/components/values";
import { useHref } from "@/hooks/url";
import { formatCount, plural } from "@/lib/format";
import { problemWords } from "@/lib/words";
import { useMay } from "@/session/session";
import { useDevice, useLastRefusal } from "./api";
import { DeviceActions } from "./DeviceActions";
import { DeviceCredentials } from "./DeviceCredentials";
import { DeviceReach } from "./DeviceReach";

/** What is known of one device, and what can be decided about it; in the drawer and, wide, on its page. */
export function DeviceDetail({ id, wide }: { id: string; wide?: boolean }) {
  const { data, error, refetch } = useDevice(id);
  const mayAudit = useMay("audit.read");
  if (error && !data) return <ProblemNotice problem={asProblem(error)} onRetry={() => void refetch()} />;
  if (!data) return <DetailSkeleton />;
  const { device } = data;
  const recent = <RecentExchanges filter={`device:${id}`} none="None of the newest exchanges is its own; they are kept in memory, a bounded number of them." />;
  const reach = <Section title="Reached over CoAP"><DeviceReach device={id} registration={device.registration} /></Section>;
  const decisions = <Decisions target={id} noun="device" may={mayAudit} />;
  return (
    <div className="flex flex-col gap-4">
      {!wide && (
        <p className="text-base text-pretty">
          <StateSentence device={device} />
        </p>
      )}
      <DeviceActions seen={data} />
      <LastRefusal device={device} />
      {wide ? (
        <div className="grid items-start gap-4 lg:grid-cols-[minmax(300px,2fr)_minmax(0,3fr)]">
          <div className="flex min-w-0 flex-col gap-4">
            <Section title="Identity"><DeviceFacts device={device} /></Section>
            <Section title="Credentials"><DeviceCredentials device={device} /></Section>
            {reach}
            {decisions}
          </div>
          {recent}
        </div>
      ) : (
        <>
          <DeviceFacts device={device} />
          <Section title="Credentials"><DeviceCredentials device={device} /></Section>
          {reach}
          {recent}
          {decisions}
        </>
      )}
    </div>
  );
}

/** "Active; last seen 4 s ago." */
export function StateSentence({ device }: { device: SchemaDevice }) {
  const { state, presence, tokens, pskIdentity, certificates = [] } = device;
  if (state === "revoked") return <>Shut out for good. Its id is not given again.</>;
  if (state === "quarantined") return <>In quarantine: nothing that it sends is let through, until somebody releases it.</>;
  if (tokens === 0 && !pskIdentity && certificates.length === 0) {
    return <>Active, but it has no credential here: only a certificate of a device authority can show who it is. Issue a token, or set a key.</>;
  }
  if (!presence) return <>Active, and never seen yet.</>;
  return (
    <>
      Active; last seen <RelativeTime time={presence.seenAt} />.
    </>
  );
}

function DeviceFacts({ device }: { device: SchemaDevice }) {
  const { presence } = device;
  const href = useHref();
  const traffic = (filter: string, text: string) => (
    <Link href={href("/traffic", { filter: `device:${device.id}${filter}` })} className="link tabular">
      {text}
    </Link>
  );
  return (
    <Facts
      facts={[
        ["State", <StateBadge state={device.state} />],
        ["Model", device.model && <Link href={href("/devices", { filter: `model:${quoted(device.model)}` })} className="link">{device.model}</Link>],
        ["Firmware", device.firmware && <Link href={href("/devices", { filter: `firmware:${quoted(device.firmware)}` })} className="link tabular">{device.firmware}</Link>],
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
        ["MQTT", <Link href={href("/mqtt", { filter: `device:${device.id}` })} className="link">Its sessions</Link>],
        ["Registered", <RelativeTime time={device.createdAt} />],
        ["Changed", device.updatedAt !== device.createdAt && <RelativeTime time={device.updatedAt} />],
      ]}
    />
  );
}

/** Why it was refused last: in words, with the exchange. */
function LastRefusal({ device }: { device: SchemaDevice }) {
  const { presence } = device;
  const { data: exchange } = useLastRefusal(device.id, presence?.refusedAt);
  const href = useHref();
  if (!presence?.refusedAt || !presence.problem) return null;
  const words = problemWords(presence.problem);
  return (
    <div className="flex gap-2.5 rounded border border-line bg-sunken px-3 py-2.5">
      <span className="mt-px"><ToneIcon tone="warning" /></span>
      <div className="flex min-w-0 flex-col gap-0.5">
        <p className="font-medium">
          Last refused <RelativeTime time={presence.refusedAt} />: {words.title}
        </p>
        {exchange && whyOf(exchange) && <code className="break-all text-soft">{exchange.detail ?? whyOf(exchange)}</code>}
        <p className="text-soft">{words.remedy}</p>
        <p className="flex flex-wrap gap-x-3 text-xs">
          {exchange && (
            <Link href={href(`/traffic/${encodeURIComponent(exchange.instance)}`)} className="link">
              Show the exchange
            </Link>
          )}
          <Link href={href("/traffic", { filter: `device:${device.id} status:denied` })} className="link">
            All its refusals
          </Link>
        </p>
      </div>
    </div>
  );
}

const quoted = (value: string) => (/[\s",]/.test(value) ? `"${value.replace(/[\\"]/g, "\\$&")}"` : value);

function DetailSkeleton() {
  return (
    <div className="flex h-96 flex-col gap-5">
      <Skeleton className="h-4 w-1/2" />
      <Skeleton className="h-8 w-2/3" />
      <Skeleton className="h-3 w-1/3" />
      <Skeleton className="h-3 w-1/2" />
      <Skeleton className="h-3 w-1/3" />
      <Skeleton className="h-32 w-full" />
    </div>
  );
}
