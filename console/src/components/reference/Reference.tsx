import { Search } from "lucide-react";
import { useMemo, useState, type ReactNode } from "react";
import { Link } from "wouter";
import { useHereHref, useUrlParam } from "@/hooks/url";
import { Badge, ProtocolBadge } from "../Badge";
import { CopyableCode } from "../Copy";
import { Facts } from "../Facts";
import { Input } from "../Field";
import { classes } from "../class";
import { readDocument, type Content, type ReferenceDocument, type ReferenceOperation } from "./document";
import { Line, Markdown } from "./Markdown";
import { SchemaTree } from "./SchemaTree";

/** A contract for people: its operations at the left, the chosen one at the right. It takes the JSON that the API gives of it. */
export default function Reference({ document: source }: { document: unknown }) {
  const document = useMemo(() => readDocument(source), [source]);
  const [chosen] = useUrlParam("op");
  const [search, setSearch] = useState("");
  const words = search.toLowerCase().split(/\s+/);
  const found = document.operations.filter((o) => {
    const haystack = `${o.id} ${o.tag} ${o.summary} ${o.calls.map((c) => c.text).join(" ")}`.toLowerCase();
    return words.every((word) => haystack.includes(word));
  });
  const operation = document.operations.find((o) => o.id === chosen);
  return (
    <div className="grid items-start gap-4 lg:grid-cols-[280px_minmax(0,1fr)]">
      <nav aria-label="Operations" className="flex min-w-0 flex-col gap-2 lg:sticky lg:top-4">
        {document.operations.length > 8 && (
          <div className="relative">
            <Search size={16} className="absolute top-2 left-2.5 text-icon" aria-hidden />
            <Input aria-label="Find an operation" placeholder="Find an operation" value={search} onChange={(e) => setSearch(e.target.value)} className="pl-8" />
          </div>
        )}
        <div className="max-h-56 overflow-y-auto rounded border border-line bg-surface p-1 lg:max-h-[calc(100dvh-220px)]">
          <Entry id="" label="Overview" open={!operation} />
          {grouped(found).map(([tag, operations]) => (
            <div key={tag}>
              {tag && <p className="px-2 pt-2 pb-1 text-xs text-quiet">{tag}</p>}
              {operations.map((o) => <Entry key={o.id} id={o.id} label={o.id} open={o.id === operation?.id} />)}
            </div>
          ))}
          {found.length === 0 && <p className="px-2 py-3 text-quiet">No operation has these words.</p>}
        </div>
      </nav>
      {operation ? <Operation key={operation.id} document={document} operation={operation} /> : <Overview document={document} />}
    </div>
  );
}

function grouped(operations: readonly ReferenceOperation[]): [string, ReferenceOperation[]][] {
  const groups = new Map<string, ReferenceOperation[]>();
  for (const o of operations) groups.set(o.tag, [...(groups.get(o.tag) ?? []), o]);
  return [...groups];
}

function Entry({ id, label, open }: { id: string; label: string; open: boolean }) {
  const here = useHereHref();
  return (
    <Link
      href={here({ op: id })}
      aria-current={open ? "true" : undefined}
      className={classes("block truncate rounded-sm px-2 py-1.5 lg:py-1", open ? "bg-pressed font-medium" : "text-soft hover:bg-hover hover:text-text")}
    >
      {label}
    </Link>
  );
}

function Overview({ document }: { document: ReferenceDocument }) {
  const here = useHereHref();
  return (
    <div className="flex min-w-0 flex-col gap-4">
      <div className="flex flex-col gap-2">
        <h2 className="text-xl font-semibold">{document.title} <span className="font-normal text-quiet">{document.version}</span></h2>
        {document.description && <Markdown source={document.description} />}
      </div>
      <ul className="rounded border border-line bg-surface">
        {document.operations.map((o) => (
          <li key={o.id} className="relative flex flex-wrap items-baseline gap-x-4 border-t border-line px-3 py-2 first:border-t-0 hover:bg-hover">
            <Link href={here({ op: o.id })} className="font-medium after:absolute after:inset-0">{o.id}</Link>
            <span className="min-w-0 flex-[1_1_240px] text-soft"><Line text={o.summary} /></span>
            <span className="flex gap-2.5">{[...new Set(o.calls.map((c) => c.protocol))].map((p) => <ProtocolBadge key={p} protocol={p} />)}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}

function Operation({ document, operation }: { document: ReferenceDocument; operation: ReferenceOperation }) {
  return (
    <article className="flex min-w-0 flex-col gap-5">
      <header className="flex flex-col gap-2">
        <h2 className="flex flex-wrap items-center gap-2 text-xl font-semibold">
          {operation.id}
          {operation.deprecated && <Badge tone="warning">deprecated</Badge>}
        </h2>
        {operation.summary && <p className="text-base text-soft"><Line text={operation.summary} /></p>}
        <ul className="flex flex-col gap-1">
          {operation.calls.map(({ protocol, text }) => (
            <li key={`${protocol} ${text}`} className="flex flex-wrap items-center gap-x-3">
              <span className="w-14"><ProtocolBadge protocol={protocol} /></span>
              <code className="min-w-0 break-all">{text}</code>
            </li>
          ))}
        </ul>
        {operation.description && <Markdown source={operation.description} />}
      </header>
      {operation.words.length > 0 && <Part title="Rules"><Facts facts={operation.words.map(([name, value]) => [name, <span key={name}>{value}</span>] as const)} /></Part>}
      {operation.parameters.length > 0 && (
        <Part title="Parameters">
          <ul className="flex flex-col gap-2.5">
            {operation.parameters.map((p) => (
              <li key={`${p.place} ${p.name}`}>
                <p className="flex flex-wrap items-baseline gap-x-2">
                  <code className="font-semibold">{p.name}</code>
                  <span className="text-quiet">in {p.place}</span>
                  {p.required && <span className="text-xs font-medium">required</span>}
                  {p.bound && <Badge tone="notice">the caller's own id</Badge>}
                </p>
                {p.description && <p className="max-w-[84ch] text-soft"><Line text={p.description} /></p>}
                <SchemaTree document={document.source} schema={p.schema} label={`Schema of ${p.name}`} />
              </li>
            ))}
          </ul>
        </Part>
      )}
      {operation.request.length > 0 && (
        <Part title="Request">
          {operation.request.map((content) => <ContentView key={content.name} document={document} content={content} />)}
        </Part>
      )}
      {operation.responses.map((response) => (
        <Part key={response.status} title={<>{/^\d/.test(response.status) ? "Answer " : ""}<span className="tabular">{response.status}</span> <span className="font-normal text-soft">{/\n/.test(response.description) ? "" : response.description}</span></>}>
          {/\n/.test(response.description) && <Markdown source={response.description} />}
          {response.contents.length === 0 && !/\n/.test(response.description) && <p className="text-quiet">No body.</p>}
          {response.contents.map((content) => <ContentView key={content.name} document={document} content={content} />)}
        </Part>
      ))}
    </article>
  );
}

const Part = ({ title, children }: { title: ReactNode; children: ReactNode }) => (
  <section className="rounded border border-line bg-surface">
    <h3 className="border-b border-line px-3 py-2 font-semibold">{title}</h3>
    <div className="flex flex-col gap-3 p-3">{children}</div>
  </section>
);

function ContentView({ document, content }: { document: ReferenceDocument; content: Content }) {
  return (
    <div className="grid min-w-0 gap-3 xl:grid-cols-[minmax(0,1fr)_minmax(0,340px)]">
      <div className="min-w-0">
        <p className="text-xs text-quiet"><code>{content.name}</code>{content.description && ` · ${content.description}`}</p>
        {content.schema !== undefined && <SchemaTree document={document.source} schema={content.schema} label={`Schema of ${content.name}`} />}
      </div>
      {content.examples.length > 0 && (
        <div className="flex min-w-0 flex-col gap-2">
          {content.examples.slice(0, 6).map((example) => (
            <div key={example.name}>
              <p className="mb-0.5 text-xs text-quiet">
                {example.name}
                {example.expect !== undefined && example.expect >= 400 && <span className="text-warning"> · refused with {example.expect}</span>}
              </p>
              <CopyableCode label={`Example ${example.name}`} text={typeof example.value === "string" ? example.value : JSON.stringify(example.value, null, 2)} />
            </div>
          ))}
        </div>
      )}
    </div>
  );
}
