import { ArrowLeft, Check, Copy, Download, Upload } from "lucide-react";
import { Link, useLocation } from "wouter";
import { asProblem } from "@/api/problem";
import { Button, CommandButton } from "@/components/Button";
import { useCopy } from "@/components/Copy";
import { Skeleton } from "@/components/EmptyState";
import { FilterBar } from "@/components/FilterBar";
import { Page } from "@/components/Page";
import { ProblemNotice } from "@/components/ProblemNotice";
import { protocols } from "@/components/Badge";
import { useCommands, type Command } from "@/hooks/commands";
import { useFilter, useHref, useUrlParam } from "@/hooks/url";
import type { FilterField } from "@/lib/filter";
import { useDraft, type DraftKind } from "./api";
import { usePublishCommand } from "./ApisPage";
import { DocumentView } from "./DocumentView";
import { handOverText } from "./handover";

const fields: readonly FilterField[] = [
  { key: "protocol", help: "by which it came", values: protocols },
  { key: "api", help: "the pass-through API; -api:* for what was refused" },
  { key: "method", help: "such as POST or PUBLISH" },
  { key: "since", help: "seen since, such as 24h" },
];

/** A draft of a contract for traffic that none explains: to read, to take along, to complete and to publish. */
export default function DraftPage() {
  const { text, setText } = useFilter();
  const [kindParam, setKind] = useUrlParam("kind");
  const kind: DraftKind = kindParam === "asyncapi" ? "asyncapi" : "openapi";
  const { data, error, isPending, refetch } = useDraft(text, kind);
  const { copied, copy } = useCopy(data ?? "");
  const href = useHref();
  const [, navigate] = useLocation();
  const { refused } = usePublishCommand();
  const name = `draft.${kind}.yaml`;
  const publish: Command = {
    id: "publish-draft", group: "Do", label: "Publish this", icon: Upload,
    refused: refused ?? (data ? undefined : "There is no draft yet."),
    run: () => {
      handOverText(name, data ?? "");
      navigate(href("/apis/publish"));
    },
  };
  useCommands([publish]);
  const download = () => {
    const address = URL.createObjectURL(new Blob([data ?? ""], { type: "application/yaml" }));
    const link = document.createElement("a");
    link.href = address;
    link.download = name;
    link.click();
    URL.revokeObjectURL(address);
  };
  return (
    <Page
      title="Draft a contract"
      fill
      sentence="A beginning, made of what was seen: the routes are real; names, schemas and who may call are for a person to complete."
      actions={
        <>
          <Link href={href("/apis")} className="link inline-flex h-8 items-center gap-1.5 px-1"><ArrowLeft size={16} aria-hidden /> All APIs</Link>
          <Button icon={copied ? Check : Copy} disabled={!data} onClick={copy}>{copied ? "Copied" : "Copy"}</Button>
          <Button icon={Download} disabled={!data} onClick={download}>Download</Button>
          <CommandButton command={publish} kind="primary" />
        </>
      }
    >
      <div className="flex flex-wrap items-start gap-2">
        <div className="min-w-0 flex-[1_1_280px]">
          <FilterBar fields={fields} text={text} onChange={setText} placeholder="Filter: protocol:http method:POST, or a part of the route" />
        </div>
        <div role="group" aria-label="Kind of contract" className="flex h-8 rounded border border-line-strong bg-surface p-0.5">
          {([["openapi", "OpenAPI"], ["asyncapi", "AsyncAPI"]] as const).map(([value, label]) => (
            <button
              key={value}
              type="button"
              aria-pressed={kind === value}
              title={value === "openapi" ? "For HTTP and CoAP" : "For MQTT"}
              className={`rounded-sm px-2.5 text-sm font-medium ${kind === value ? "bg-pressed text-text" : "text-soft hover:text-text"}`}
              onClick={() => setKind(value === "openapi" ? "" : value)}
            >
              {label}
            </button>
          ))}
        </div>
      </div>
      {error && <ProblemNotice problem={asProblem(error)} onRetry={() => void refetch()} />}
      {isPending && <Skeleton className="h-80 w-full" />}
      {data !== undefined && (
        <div className="mb-4 min-h-0 flex-1 overflow-hidden rounded border border-line"><DocumentView text={data} label="The draft" /></div>
      )}
    </Page>
  );
}
