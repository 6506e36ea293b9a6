import { useState } from "react";
import { asProblem } from "@/api/problem";
import type { SchemaAddressState, SchemaTarget, SchemaUpstream, SchemaUpstreamAddress, SchemaUpstreamGateway } from "@/api/schema.gen";
import { Badge, ToneIcon } from "@/components/Badge";
import { CopyableCode } from "@/components/Copy";
import { Decisions } from "@/components/Decisions";
import { Skeleton } from "@/components/EmptyState";
import { Facts } from "@/components/Facts";
import { Section } from "@/components/Page";
import { PlainTable, type PlainColumn } from "@/components/PlainTable";
import { ProblemNotice } from "@/components/ProblemNotice";
import { Duration, Expiry, RelativeTime } from "@/components/values";
import { formatCount, plural } from "@/lib/format";
import { useMay } from "@/session/session";
import { useUpstream } from "./api";
import { loadFacts } from "./load";
import { emptyForm, placeOf, registerCommand } from "./register";
import { RegisterDialog, RemoveDialog } from "./RegisterDialog";
import { upstreamState } from "./state";
import { RegisterButton, TargetMenu } from "./UpstreamActions";

/** One upstream: its addresses as each gateway sees them. */
export function UpstreamDetail({ name }: { name: string }) {
  const { data: upstream, error, refetch } = useUpstream(name);
  const [open, setOpen] = useState<{ what: "register" | "remove"; target?: SchemaTarget }>();
  const mayAudit = useMay("audit.read");
  const close = () => setOpen(undefined);
  if (error && !upstream) return <ProblemNotice problem={asProblem(error)} onRetry={() => void refetch()} />;
  if (!upstream) return <Skeleton className="h-60 w-full" />;
  const rows = upstream.addresses.flatMap((address): Row[] => (address.states?.length ? address.states.map((state, i) => ({ address, state, first: i === 0 })) : [{ address, first: true }]));
  return (
    <div className="flex flex-col gap-4">
      <div className="flex flex-wrap gap-2"><RegisterButton upstream={upstream} onPress={() => setOpen({ what: "register" })} /></div>
      <Facts facts={facts(upstream)} />
      <Section title="Addresses" flush>
        {rows.length === 0 ? (
          <div className="flex flex-col gap-3 px-3 py-4">
            <p className="text-soft">It has none. Register one here, or where the service starts{upstream.registered ? "" : ", and let gateways take it: discover: {registered: true} in the environment file"}:</p>
            <CopyableCode label="Command that registers an address" text={registerCommand(name, emptyForm)} />
          </div>
        ) : (
          <PlainTable label={`Addresses of ${name}`} columns={addressColumns(setOpen)} rows={rows} rowKey={(r) => `${r.address.address} ${r.state?.node ?? ""}`} />
        )}
        {upstream.notShown ? <p className="border-t border-line px-3 py-2 text-quiet">{plural(upstream.notShown, "more address", "more addresses")} that gateways do not list.</p> : null}
      </Section>
      <Section title="Gateways" flush>
        {upstream.gateways.length === 0 ? (
          <p className="px-3 py-4 text-soft">No gateway has it: add it to the environment file of a node, with <code>discover: {"{registered: true}"}</code>.</p>
        ) : (
          <PlainTable label={`Gateways of ${name}`} columns={gatewayColumns} rows={upstream.gateways} rowKey={(g) => g.node} />
        )}
      </Section>
      <Decisions target={name} noun="target" may={mayAudit} />
      {open?.what === "register" && <RegisterDialog upstream={upstream} target={open.target} onClose={close} />}
      {open?.what === "remove" && open.target && <RemoveDialog upstream={upstream} target={open.target} onClose={close} />}
    </div>
  );
}

export function UpstreamSentence({ upstream: u }: { upstream: SchemaUpstream }) {
  const total = u.healthy + u.unhealthy;
  if (u.circuit === "open" || u.circuit === "half-open") return <>The circuit is open: most calls failed, and callers are refused at once until the service answers again.</>;
  if (total === 0) return <>It has no address, so its calls cannot be carried out.</>;
  if (u.unhealthy === 0) return <>{total === 1 ? "Its address answers." : `All ${formatCount(total)} addresses answer.`}</>;
  return <>{formatCount(u.unhealthy)} of {plural(total, "address", "addresses")} {u.unhealthy === 1 ? "is" : "are"} unhealthy{u.panic ? ", so many that calls go to all" : " and left out"}.</>;
}

const facts = (u: SchemaUpstream) => {
  const { tone, word } = upstreamState(u);
  return [
    ["State", <Badge tone={tone}>{word}</Badge>],
    ["Problem", u.problem],
    ["Balance", u.algorithm && <code>{u.algorithm}</code>],
    ["Circuit", u.circuit],
    ["In flight", <span className="tabular">{formatCount(u.inFlight)}</span>],
    ["Latency", u.latency ? <Duration micros={Math.round(u.latency * 1000)} /> : undefined],
    ["Calls", <span className="tabular">{formatCount(u.calls)}, {formatCount(u.failures)} failed, since the gateways started</span>],
    ...loadFacts(u.load),
    ["Registered", u.registered ? "services may register addresses" : "takes no registered addresses"],
  ] as const;
};

/** An address as one gateway sees it. What is said of the address itself stands in its first row. */
interface Row {
  address: SchemaUpstreamAddress;
  state?: SchemaAddressState;
  first: boolean;
}

function AddressCell({ address: { address, target, ...place } }: { address: SchemaUpstreamAddress }) {
  const said = placeOf(place);
  return (
    <span className="flex min-w-44 flex-col">
      <code className="break-all">{address}</code>
      {(said || target) && (
        <span className="text-xs text-quiet">
          {said}
          {target && <span className="lg:hidden">{said && ", "}registered, <Expiry time={target.expiresAt} /></span>}
        </span>
      )}
    </span>
  );
}

function StateCell({ state }: { state: SchemaAddressState | undefined }) {
  if (!state) return <Badge>not used</Badge>;
  if (state.healthy) return <Badge tone="good">healthy</Badge>;
  return (
    <span className="flex flex-col items-start gap-0.5">
      <Badge tone="bad">unhealthy</Badge>
      {state.why && <span className="text-xs text-soft">{state.why}</span>}
    </span>
  );
}

const addressColumns = (decide: (open: { what: "register" | "remove"; target: SchemaTarget }) => void): readonly PlainColumn<Row>[] => [
  { id: "address", header: "Address", cell: (r) => <AddressCell address={r.address} /> },
  { id: "node", header: "Gateway", cell: (r) => (r.state ? <code>{r.state.node}</code> : "–") },
  { id: "state", header: "State", cell: (r) => <StateCell state={r.state} /> },
  { id: "since", header: "Since", from: "sm", cell: (r) => (r.state ? <RelativeTime time={r.state.since} /> : "–") },
  { id: "inFlight", header: "In flight", align: "end", from: "md", cell: (r) => (r.state ? formatCount(r.state.inFlight) : "–") },
  { id: "latency", header: "Latency", align: "end", from: "sm", cell: (r) => (r.state?.latency ? <Duration micros={Math.round(r.state.latency * 1000)} /> : "–") },
  { id: "failures", header: "Failed", align: "end", from: "md", cell: (r) => (r.state ? `${formatCount(r.state.failures)} of ${formatCount(r.state.calls)}` : "–") },
  { id: "registered", header: "Registered", from: "lg", cell: (r) => (r.address.target ? <Expiry time={r.address.target.expiresAt} /> : <span className="text-quiet">no</span>) },
  {
    id: "actions", header: "", align: "end",
    cell: ({ first, address: { target } }) => first && target && <TargetMenu target={target} onChange={() => decide({ what: "register", target })} onRemove={() => decide({ what: "remove", target })} />,
  },
];

const gatewayColumns: readonly PlainColumn<SchemaUpstreamGateway>[] = [
  { id: "node", header: "Gateway", cell: (g) => <code>{g.node}</code> },
  { id: "healthy", header: "Healthy", align: "end", cell: (g) => `${formatCount(g.healthy)} of ${formatCount(g.healthy + g.unhealthy)}` },
  { id: "circuit", header: "Circuit", cell: (g) => g.circuit ?? "–" },
  { id: "problem", header: "Problem", from: "sm", cell: (g) => (g.problem ? <span className="inline-flex items-start gap-1.5"><ToneIcon tone="warning" />{g.problem}</span> : <span className="text-quiet">none</span>) },
];
