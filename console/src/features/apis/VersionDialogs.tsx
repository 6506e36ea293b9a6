import { useState, type FormEvent, type ReactNode } from "react";
import { asProblem, type ApiProblem } from "@/api/problem";
import type { SchemaApiDetail, SchemaAuditEntry, SchemaVersion } from "@/api/schema.gen";
import { ToneIcon } from "@/components/Badge";
import { Button } from "@/components/Button";
import { Dialog, DialogActions, DialogBody } from "@/components/Dialog";
import { Field, Input, Select } from "@/components/Field";
import { ProblemNotice } from "@/components/ProblemNotice";
import { showToast } from "@/components/toasts";
import { RelativeTime } from "@/components/values";
import { useUndo } from "@/hooks/undo";
import { decisionVerb } from "@/lib/audit";
import { formatCount, plural } from "@/lib/format";
import { useApi, useCallers, useDeprecate, useRestore, useRetire, useReturn } from "./api";
import { total } from "./plan";

interface DialogProps {
  api: SchemaApiDetail;
  version: SchemaVersion;
  /** Of the API when the dialog was opened: a decision is refused when somebody else was faster. */
  etag: string | undefined;
  onClose: () => void;
}

export function RetireDialog({ api, version, etag, onClose }: DialogProps) {
  const retire = useRetire();
  const back = useReturn();
  return (
    <DecisionDialog
      title={`Retire ${api.name} ${version.version}`}
      description="Its callers are answered 410 Gone within a second, over every protocol. The document stays; restoring it brings everything back."
      action="Retire"
      api={api}
      version={version}
      etag={etag}
      onClose={onClose}
      decide={(ifMatch) => retire.mutateAsync({ api: api.name, version: version.version, etag: ifMatch })}
      busy={retire.isPending}
      done={`${api.name} ${version.version} is retired`}
      undo={() => back.mutateAsync(version)}
    />
  );
}

export function DeprecateDialog({ api, version, etag, onClose }: DialogProps) {
  const deprecate = useDeprecate();
  const back = useReturn();
  const [sunset, setSunset] = useState("");
  const [successor, setSuccessor] = useState("");
  const others = api.versions.filter((v) => v.version !== version.version && v.state !== "retired");
  return (
    <DecisionDialog
      title={`Deprecate ${api.name} ${version.version}`}
      description="It goes on being served. Answers tell its callers that it will end, and each call is noted as a finding."
      action="Deprecate"
      api={api}
      version={version}
      etag={etag}
      onClose={onClose}
      decide={(ifMatch) =>
        deprecate.mutateAsync({ api: api.name, version: version.version, etag: ifMatch, sunset: sunset ? `${sunset}T00:00:00Z` : undefined, successor: successor || undefined })
      }
      busy={deprecate.isPending}
      done={`${api.name} ${version.version} is deprecated`}
      undo={() => back.mutateAsync(version)}
    >
      <Field label="Last day" optional hint="Callers learn the date (Sunset, RFC 8594). It does not end by itself: retire it then.">
        <Input type="date" value={sunset} min={new Date().toISOString().slice(0, 10)} onChange={(e) => setSunset(e.target.value)} />
      </Field>
      {others.length > 0 && (
        <Field label="Successor" optional hint="The version that callers should move to.">
          <Select value={successor} onChange={(e) => setSuccessor(e.target.value)}>
            <option value="">None</option>
            {others.map((v) => <option key={v.version} value={v.version}>{v.version}, {v.state}</option>)}
          </Select>
        </Field>
      )}
    </DecisionDialog>
  );
}

/** Decides about a version: says who still calls it, refuses to overwrite what somebody else decided, and offers to take it back. */
function DecisionDialog({ title, description, action, api, version, etag, onClose, decide, busy, done, undo, children }: DialogProps & {
  title: string;
  description: string;
  action: string;
  decide: (ifMatch: string | undefined) => Promise<unknown>;
  busy: boolean;
  done: string;
  undo: () => Promise<unknown>;
  children?: ReactNode;
}) {
  const [seenEtag, setSeenEtag] = useState(etag);
  const [problem, setProblem] = useState<ApiProblem>();
  const now = useApi(api.name);
  const undoable = useUndo();
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setProblem(undefined);
    try {
      await decide(seenEtag);
    } catch (error) {
      const refused = asProblem(error);
      setProblem(refused);
      if (refused.status === 412) setSeenEtag((await now.refetch()).data?.etag); // whoever presses again has seen what changed
      return;
    }
    onClose();
    void undoable(async () => {}, done, undo);
  };
  return (
    <Dialog open onClose={onClose} title={title} description={description}>
      <form onSubmit={(event) => void submit(event)} className="contents">
        <DialogBody>
          <StillCalled api={api} version={version} />
          {children}
          {problem && (problem.status === 412 ? <ChangedNotice changes={problem.problem.changes ?? []} /> : <ProblemNotice problem={problem} />)}
        </DialogBody>
        <DialogActions>
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind="primary" busy={busy}>{problem?.status === 412 ? `${action} nevertheless` : action}</Button>
        </DialogActions>
      </form>
    </Dialog>
  );
}

/** Who called a version in the last 24 hours, in words. */
function StillCalled({ api, version }: { api: SchemaApiDetail; version: SchemaVersion }) {
  const callers = useCallers(api.name, version.version, "24h");
  const of = api.traffic.filter((t) => t.version === version.version);
  const exchanges = total(of, "exchanges");
  // Callers of one operation are counted apart from those of another: the largest number is sure.
  const devices = Math.max(0, ...of.map((t) => t.devices));
  if (exchanges === 0) return <p className="text-soft">Nobody called it in the last 24 hours.</p>;
  return (
    <div className="flex flex-col gap-1">
      <p className="flex items-start gap-2 font-medium">
        <span className="mt-px"><ToneIcon tone="warning" /></span>
        {of.length > 1 ? "At least " : ""}{plural(devices, "caller")} called it in the last 24 hours, {plural(exchanges, "exchange")} in all.
      </p>
      {callers.data && callers.data.length > 0 && (
        <ul className="pl-6 text-soft">
          {callers.data.slice(0, 5).map((c) => (
            <li key={`${c.model ?? ""} ${c.firmware}`} className="tabular">
              {callerName(c)}: {formatCount(c.exchanges)}, last <RelativeTime time={c.lastSeen} />
            </li>
          ))}
          {callers.data.length > 5 && <li>and {formatCount(callers.data.length - 5)} more</li>}
        </ul>
      )}
    </div>
  );
}

export const callerName = ({ model, firmware }: { model?: string; firmware: string }) =>
  [model, firmware && `firmware ${firmware}`].filter(Boolean).join(", ") || "without a known firmware";

/** Somebody else was faster (412): what they decided meanwhile. */
export function ChangedNotice({ changes, children }: { changes: readonly SchemaAuditEntry[]; children?: ReactNode }) {
  return (
    <div role="alert" className="flex flex-col gap-1.5 rounded border border-line-strong bg-warning-tint px-3 py-2.5">
      <p className="flex items-start gap-2 font-medium">
        <span className="mt-px"><ToneIcon tone="warning" /></span>
        Somebody else changed the API meanwhile; nothing of yours is applied.
      </p>
      <ul className="pl-6">
        {changes.slice(0, 5).map((entry) => (
          <li key={entry.id}>{entry.actor}: {decisionVerb(entry.action)} {entry.target}, <RelativeTime time={entry.time} /></li>
        ))}
      </ul>
      {children}
    </div>
  );
}

/** Restores a version and offers to put it back into the state that it had. */
export function useRestoreVersion() {
  const restore = useRestore();
  const back = useReturn();
  const undoable = useUndo();
  return (version: SchemaVersion) => {
    if (version.state === "active") return showToast(`${version.api} ${version.version} is active already`, {});
    void undoable(() => restore.mutateAsync({ api: version.api, version: version.version }), `${version.api} ${version.version} is active`, () => back.mutateAsync(version));
  };
}
