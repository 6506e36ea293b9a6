import { Link } from "wouter";
import type { SchemaCoapPeer, SchemaCoapTransfer } from "@/api/schema.gen";
import { Views as AllViews } from "@/components/Views";
import { Bytes } from "@/components/values";
import { useHref } from "@/hooks/url";
import type { FilterField } from "@/lib/filter";

const views = [
  ["/coap", "Peers"],
  ["/coap/observations", "Observations"],
  ["/coap/transfers", "Block transfers"],
] as const;

/** The three ways to look at CoAP. */
export const Views = ({ here }: { here: (typeof views)[number][0] }) => <AllViews label="Views of CoAP" views={views} here={here} />;

export const None = () => <span className="text-quiet">–</span>;

/** By whom lists can be filtered. */
export const ownerFields: readonly FilterField[] = [
  { key: "device", help: "peers of a device" },
  { key: "principal", help: "peers of a device or app" },
  { key: "kind", help: "who it is", values: ["device", "app", "foreign"] },
  { key: "source", help: "address and port, such as 10.0.*" },
  { key: "listener", help: "what they came by, such as coap or coaps" },
  { key: "node", help: "the gateway" },
];

/** Who a peer has shown to be. */
export function Caller({ of }: { of: Pick<SchemaCoapPeer, "kind" | "principal"> }) {
  const href = useHref();
  const page = of.kind === "device" ? "/devices" : of.kind === "app" ? "/apps" : undefined;
  if (!of.principal) return <None />;
  return page ? <Link href={href(`${page}/${encodeURIComponent(of.principal)}`)} className="link font-mono text-xs">{of.principal}</Link> : <span className="font-mono text-xs">{of.principal}</span>;
}

/** How far a body is: "40 KiB of 64 KiB". */
export function Progress({ of }: { of: SchemaCoapTransfer }) {
  return <span className="tabular whitespace-nowrap"><Bytes bytes={of.bytes} />{of.size ? <> of <Bytes bytes={of.size} /></> : null}</span>;
}
