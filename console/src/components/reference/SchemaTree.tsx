import { ChevronRight } from "lucide-react";
import { useState } from "react";
import type { Json } from "./json";
import { Line } from "./Markdown";
import { schemaNode, type SchemaNode } from "./schema";

/** A schema as an expandable tree; its first level is open. */
export function SchemaTree({ document, schema, label }: { document: Json; schema: unknown; label: string }) {
  const root = schemaNode(document, schema);
  return (
    <div role="group" aria-label={label} className="min-w-0">
      <NodeText node={root} />
      {root.hasChildren && <Children node={root} />}
    </div>
  );
}

function Children({ node }: { node: SchemaNode }) {
  return (
    <ul className="mt-1 flex flex-col border-l border-line pl-3">
      {node.children().map((child, i) => (
        <Row key={`${child.name} ${i}`} node={child} />
      ))}
    </ul>
  );
}

function Row({ node }: { node: SchemaNode }) {
  const [open, setOpen] = useState(false);
  return (
    <li className="py-1">
      {node.hasChildren ? (
        <div className="-ml-1 flex items-start gap-0.5">
          <button type="button" aria-expanded={open} aria-label={`${node.name}: what it consists of`} className="mt-px grid size-5 shrink-0 place-items-center rounded-sm text-icon hover:bg-pressed" onClick={() => setOpen(!open)}>
            <ChevronRight size={14} className={open ? "rotate-90" : ""} aria-hidden />
          </button>
          <NodeText node={node} />
        </div>
      ) : (
        <div className="pl-[18px]"><NodeText node={node} /></div>
      )}
      {open && <div className="ml-1.5"><Children node={node} /></div>}
    </li>
  );
}

function NodeText({ node }: { node: SchemaNode }) {
  return (
    <div className="min-w-0 flex-1">
      <p className="flex flex-wrap items-baseline gap-x-2">
        {node.name && (node.member ? <code className="font-semibold">{node.name}</code> : <span className="text-soft italic">{node.name}</span>)}
        <span className="text-soft">{node.type}</span>
        {node.component && <span className="text-quiet">{node.component}</span>}
        {node.required && <span className="text-xs font-medium text-text">required</span>}
        {node.deprecated && <span className="text-xs font-medium text-warning">deprecated</span>}
        {node.limits.map((limit) => (
          <code key={limit} className="break-all text-quiet">{limit}</code>
        ))}
        {node.words.map(([name, value]) => (
          <code key={name} className="text-quiet">{name} {value}</code>
        ))}
      </p>
      {node.values.length > 0 && (
        <p className="flex flex-wrap gap-1 py-0.5">
          {node.values.map((value) => <code key={value} className="rounded-sm bg-sunken px-1">{value}</code>)}
        </p>
      )}
      {node.description && <p className="max-w-[84ch] text-soft"><Line text={node.description} /></p>}
      {node.example && <p className="text-xs text-quiet">such as <code className="break-all">{node.example}</code></p>}
    </div>
  );
}
