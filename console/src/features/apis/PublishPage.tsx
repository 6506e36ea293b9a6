import { ClipboardPaste, FileUp, Upload } from "lucide-react";
import { useCallback, useRef, useState } from "react";
import { Link, useLocation } from "wouter";
import { asProblem, type ApiProblem } from "@/api/problem";
import type { SchemaContractFinding, SchemaOperationChange, SchemaPlan } from "@/api/schema.gen";
import { Badge, ToneIcon } from "@/components/Badge";
import { Button } from "@/components/Button";
import { CopyableCode } from "@/components/Copy";
import { Skeleton } from "@/components/EmptyState";
import { Field, Textarea } from "@/components/Field";
import { Page, Section } from "@/components/Page";
import { ProblemNotice } from "@/components/ProblemNotice";
import { showToast } from "@/components/toasts";
import { useCommands, type Command } from "@/hooks/commands";
import { useHref } from "@/hooks/url";
import { formatCount, plural } from "@/lib/format";
import { useMay, useSession } from "@/session/session";
import { apiHref, usePlan, usePublish, type Document, type SeenApi } from "./api";
import { usePublishCommand } from "./ApisPage";
import { DocumentView } from "./DocumentView";
import { Dropzone } from "./Dropzone";
import { handOver, handOverFile, handOverText, useHandover } from "./handover";
import { changeOrder, planSentence, removedOperations, ruleParts, type Change } from "./plan";
import { ChangedNotice } from "./VersionDialogs";

/** Publishing: a document, what it would change, and whether to. Nothing changes before one presses Publish. */
export default function PublishPage() {
  const handed = useHandover();
  const document = handed && "document" in handed ? handed.document : undefined;
  const refused = usePublishCommand().refused;
  const onFile = useCallback((file: File) => void handOverFile(file), []);
  return (
    <Dropzone onFile={onFile} refused={refused}>
      {document ? <Reviewed key={document.text} document={document} /> : <Chooser refusal={handed && "refusal" in handed ? handed.refusal : undefined} refused={refused} />}
    </Dropzone>
  );
}

function Chooser({ refusal, refused }: { refusal: string | undefined; refused: string | undefined }) {
  const [pasted, setPasted] = useState("");
  const file = useRef<HTMLInputElement>(null);
  const choose: Command = { id: "choose-contract", group: "Do", label: "Choose a file", icon: FileUp, keys: "o", refused, run: () => file.current?.click() };
  useCommands([choose]);
  return (
    <Page title="Publish a contract" sentence="Drop a contract anywhere on this page, choose a file, or paste one. You see what it would change before anything is published.">
      {refused && <p className="text-soft">{refused}</p>}
      {refusal && (
        <div role="alert" className="flex gap-2.5 rounded border border-line-strong bg-bad-tint px-3 py-2.5">
          <span className="mt-px"><ToneIcon tone="bad" /></span>
          <p>{refusal}</p>
        </div>
      )}
      <div className="grid items-start gap-4 lg:grid-cols-2">
        <Section title="A file">
          <div className="flex flex-col items-start gap-3">
            <p className="text-soft">OpenAPI 3.1 or 3.0, AsyncAPI 3 or a pass-through document, as YAML or JSON, of at most 8 MiB.</p>
            <input
              ref={file} type="file" accept=".yaml,.yml,.json" className="sr-only" tabIndex={-1} aria-label="A contract"
              onChange={(e) => {
                const chosen = e.target.files?.[0];
                if (chosen) void handOverFile(chosen);
                e.target.value = "";
              }}
            />
            <Button kind="primary" icon={FileUp} disabled={refused !== undefined} onClick={choose.run}>Choose a file</Button>
            <p className="text-soft">By command it is the same:</p>
            <CopyableCode label="Command that publishes a contract" text="fieldgate api publish my-api.openapi.yaml" />
          </div>
        </Section>
        <Section title="Or its text">
          <form
            className="flex flex-col items-start gap-3"
            onSubmit={(event) => {
              event.preventDefault();
              if (pasted.trim()) handOverText("pasted document", pasted);
            }}
          >
            <div className="w-full">
              <Field label="Document">
                <Textarea value={pasted} onChange={(e) => setPasted(e.target.value)} rows={10} spellCheck={false} className="font-mono text-xs" placeholder="openapi: 3.1.0" />
              </Field>
            </div>
            <Button type="submit" icon={ClipboardPaste} disabled={refused !== undefined || pasted.trim() === ""}>See what it changes</Button>
          </form>
        </Section>
      </div>
    </Page>
  );
}

function Reviewed({ document }: { document: Document }) {
  const plan = usePlan(document);
  const publish = usePublish();
  const may = useMay("apis.write");
  const { role } = useSession();
  const href = useHref();
  const [, navigate] = useLocation();
  const [at, setAt] = useState<{ line: number }>();
  const problem = plan.error ? asProblem(plan.error) : undefined;
  const refusal = publish.error ? asProblem(publish.error) : undefined;
  const findings = plan.data?.plan.findings ?? problem?.problem.findings ?? [];
  const nothing = plan.data?.plan.change === "none";

  const submit = () => {
    if (!plan.data) return;
    publish.mutate({ document, plan: plan.data.plan, now: plan.data.now }, {
      onSuccess: ({ plan: { api, version, applied }, undo }) => {
        handOver(undefined);
        navigate(href(apiHref(api)));
        const takeBack = () =>
          void undo().then(
            () => showToast(`${api} is as it was before`, { tone: "good" }),
            (error: unknown) => showToast(asProblem(error).message, { tone: "bad" }),
          );
        showToast(applied ? `${api} ${version} is live` : `${api} ${version} was published already`, { tone: "good", action: applied ? { label: "Undo", run: takeBack } : undefined });
      },
    });
  };
  const command: Command = {
    id: "publish-now", group: "Do", label: "Publish", icon: Upload, keys: "mod+Enter",
    refused: may ? (plan.data ? (nothing ? "Exactly this is published already." : undefined) : "There is no plan yet.") : `The role ${role} may not publish; ask a developer, operator or owner.`,
    run: submit,
  };
  useCommands([command]);
  return (
    <Page
      title="Publish a contract"
      fill
      sentence={plan.data ? planSentence(plan.data.plan) : problem ? refusalSentence(problem) : <Skeleton className="my-1.5 h-3 w-96 max-w-full" />}
      actions={
        <>
          <Button onClick={() => handOver(undefined)}>Another document</Button>
          <Button kind="primary" icon={Upload} busy={publish.isPending} disabled={command.refused !== undefined} title={command.refused} onClick={submit}>Publish</Button>
        </>
      }
    >
      <div className="flex min-h-0 flex-1 flex-col gap-4 overflow-y-auto pb-4 lg:grid lg:grid-cols-[minmax(320px,2fr)_minmax(0,3fr)] lg:overflow-hidden">
        <div className="flex min-w-0 flex-col gap-4 lg:overflow-y-auto">
          {refusal && <Refusal problem={refusal} onAgain={() => void plan.refetch().then(() => publish.reset())} />}
          {problem && !findings.length && <ProblemNotice problem={problem} onRetry={() => void plan.refetch()} />}
          {plan.isPending && <Skeleton className="h-40 w-full" />}
          {plan.data && <Operations plan={plan.data.plan} now={plan.data.now} />}
          {(plan.data || findings.length > 0) && <FindingList findings={findings} onShow={(line) => setAt({ line })} />}
          {nothing && plan.data && (
            <p><Link href={href(apiHref(plan.data.plan.api))} className="link">Show {plan.data.plan.api}</Link></p>
          )}
        </div>
        <section aria-label={document.name} className="flex min-h-80 min-w-0 flex-col overflow-hidden rounded border border-line bg-surface max-lg:h-[60dvh] max-lg:shrink-0">
          <h2 className="truncate border-b border-line px-3 py-2 font-semibold">{document.name}</h2>
          <div className="min-h-0 flex-1"><DocumentView text={document.text} findings={findings} at={at} label={`Text of ${document.name}`} /></div>
        </section>
      </div>
    </Page>
  );
}

function refusalSentence(problem: ApiProblem): string {
  const count = problem.problem.findings?.length ?? 0;
  if (problem.code === "invalid-contract") return `This is no valid contract: ${plural(count, "place")} to correct. Nothing was published.`;
  if (problem.code === "route-conflict") return `Another API serves ${plural(count, "route")} of this contract. Nothing was published.`;
  return "The plan could not be made. Nothing was published.";
}

function Refusal({ problem, onAgain }: { problem: ApiProblem; onAgain: () => void }) {
  if (problem.status !== 412) return <ProblemNotice problem={problem} />;
  return (
    <ChangedNotice changes={problem.problem.changes ?? []}>
      <div className="pl-6"><Button onClick={onAgain}>Look at the plan as it is now</Button></div>
    </ChangedNotice>
  );
}

const changeTones = { removed: "warning", changed: "notice", added: "good", unchanged: "neutral" } as const;

function Operations({ plan, now }: { plan: SchemaPlan; now: SeenApi | undefined }) {
  const href = useHref();
  const removed = new Map(removedOperations(plan, now?.api).map((r) => [r.id, r]));
  const called = [...removed.values()].filter((r) => r.exchanges > 0);
  const rows = [...plan.operations].sort((a, b) => changeOrder.indexOf(a.change) - changeOrder.indexOf(b.change));
  return (
    <Section title="Operations" flush actions={<Counts operations={plan.operations} />}>
      {called.length > 0 && (
        <p className="flex items-start gap-2 border-b border-line bg-warning-tint px-3 py-2.5">
          <span className="mt-px"><ToneIcon tone="warning" /></span>
          <span>
            {plural(called.length, "removed operation")} {called.length === 1 ? "was" : "were"} called in the last 24 hours. {called.length === 1 ? "Its" : "Their"} callers are refused once this is published, unless another operation has the route.
          </span>
        </p>
      )}
      <ul className="max-h-80 overflow-y-auto" tabIndex={0} aria-label="What becomes of each operation">
        {rows.map(({ id, change, rules = [] }) => {
          const traffic = removed.get(id);
          return (
            <li key={id} className="flex flex-wrap items-center gap-x-3 gap-y-0.5 border-t border-line px-3 py-1.5 first:border-t-0">
              <span className="w-24"><Badge tone={changeTones[change]}>{change}</Badge></span>
              <span className={change === "unchanged" ? "text-soft" : "font-medium"}>{id}</span>
              {traffic && (
                <span className="w-full pl-27 text-soft">
                  {traffic.exchanges === 0 ? "nobody called it in 24 hours" : (
                    <Link href={href("/traffic", { filter: `api:${plan.api} operation:${id}` })} className="link tabular">
                      {plural(traffic.exchanges, "exchange")} of {plural(traffic.devices, "caller")} in 24 hours
                    </Link>
                  )}
                </span>
              )}
              {rules.length > 0 && (
                <ul aria-label={`Rules of ${id} that change`} className="flex w-full flex-col gap-0.5 pb-1 text-soft sm:pl-27">
                  {rules.map((rule, i) => <li key={i} className="break-words"><ChangedRule rule={rule} /></li>)}
                </ul>
              )}
            </li>
          );
        })}
      </ul>
    </Section>
  );
}

function ChangedRule({ rule }: { rule: string }) {
  const { word, text } = ruleParts(rule);
  return <><code className="text-text">{word}</code>{text}</>;
}

function Counts({ operations }: { operations: readonly SchemaOperationChange[] }) {
  const count = (change: Change) => operations.filter((o) => o.change === change).length;
  return <span className="px-1 text-xs text-quiet tabular">{changeOrder.filter((c) => count(c) > 0).map((c) => `${formatCount(count(c))} ${c}`).join(", ")}</span>;
}

function FindingList({ findings, onShow }: { findings: readonly SchemaContractFinding[]; onShow: (line: number) => void }) {
  const errors = findings.filter((f) => f.severity === "error").length;
  return (
    <Section title="Findings" flush actions={<span className="px-1 text-xs text-quiet tabular">{[errors > 0 && plural(errors, "error"), findings.length > errors && plural(findings.length - errors, "warning")].filter(Boolean).join(", ")}</span>}>
      {findings.length === 0 && (
        <p className="flex items-center gap-2 px-3 py-3 text-soft"><ToneIcon tone="good" /> Nothing is wrong with it.</p>
      )}
      <ol>
        {[...findings].sort((a, b) => Number(b.severity === "error") - Number(a.severity === "error")).map((f, i) => (
          <li key={i} className="flex gap-2.5 border-t border-line px-3 py-2 first:border-t-0">
            <span className="mt-0.5"><ToneIcon tone={f.severity === "error" ? "bad" : "warning"} /></span>
            <div className="min-w-0 flex-1">
              <p className={f.severity === "error" ? "text-bad" : ""}><span className="sr-only">{f.severity}: </span>{f.message}</p>
              {f.remedy && <p className="text-soft">{f.remedy}</p>}
              {f.line && (
                <p className="text-xs">
                  <button type="button" className="link min-h-6 tabular" onClick={() => onShow(f.line!)}>line {f.line}{f.column ? `, column ${f.column}` : ""}</button>{" "}
                  {f.pointer && <code className="break-all text-quiet">{f.pointer}</code>}
                </p>
              )}
            </div>
          </li>
        ))}
      </ol>
    </Section>
  );
}
