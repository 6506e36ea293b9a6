import { ToneIcon } from "./Badge";

/** Which gateways did not answer: a part must not be taken for the whole. */
export function MissingGateways({ nodes }: { nodes: readonly string[] | undefined }) {
  if (!nodes?.length) return null;
  return (
    <p role="status" className="flex shrink-0 items-start gap-2 rounded border border-line-strong bg-warning-tint px-3 py-2.5">
      <span className="mt-px"><ToneIcon tone="warning" /></span>
      <span>Not all is shown: <code>{nodes.join(", ")}</code> {nodes.length === 1 ? "does" : "do"} not answer.</span>
    </p>
  );
}
