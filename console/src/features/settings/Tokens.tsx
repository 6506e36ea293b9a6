import { KeyRound } from "lucide-react";
import { useState, type FormEvent } from "react";
import { asProblem } from "@/api/problem";
import type { SchemaScope, SchemaToken } from "@/api/schema.gen";
import { StateBadge } from "@/components/Badge";
import { Button, CommandButton } from "@/components/Button";
import { CopyableCode, CopyOnce } from "@/components/Copy";
import { ConfirmDialog, Dialog, DialogActions, DialogBody } from "@/components/Dialog";
import { Skeleton } from "@/components/EmptyState";
import { Field, Input } from "@/components/Field";
import { Section } from "@/components/Page";
import { PlainTable, type PlainColumn } from "@/components/PlainTable";
import { ProblemNotice } from "@/components/ProblemNotice";
import { showToast } from "@/components/toasts";
import { RelativeTime } from "@/components/values";
import { useCommands, type Command } from "@/hooks/commands";
import { useMay, useSession } from "@/session/session";
import { useAddToken, useRevokeToken, useTokens } from "./api";
import { Scopes } from "./Operators";
import { scopes } from "./roles";

/** API tokens: one's own, and for owners those of everybody. */
export function Tokens() {
  const tokens = useTokens();
  const all = useMay("access.write");
  const { kind } = useSession();
  const [open, setOpen] = useState<"add" | SchemaToken>();
  const close = () => setOpen(undefined);
  const refused = kind === "operator" || kind === "token" ? undefined : "A token belongs to an operator. Make yourself the owner first, then sign in as one.";
  const add: Command = { id: "add-token", group: "Do", label: "Make an API token", icon: KeyRound, keys: "n", refused, run: () => setOpen("add") };
  useCommands([add]);
  if (tokens.problem) return <ProblemNotice problem={tokens.problem} onRetry={tokens.retry} />;
  const columns: readonly PlainColumn<SchemaToken>[] = [
    { id: "name", header: "What it is for", cell: (t) => <span className="font-medium">{t.name}</span> },
    ...(all ? [{ id: "operator", header: "Of", from: "sm" as const, cell: (t: SchemaToken) => t.operator }] : []),
    { id: "scopes", header: "May", from: "md", cell: (t) => <Scopes scopes={t.scopes} /> },
    { id: "state", header: "State", cell: (t) => <StateBadge state={t.state} /> },
    { id: "used", header: "Last used", from: "sm", cell: (t) => (t.usedAt ? <RelativeTime time={t.usedAt} /> : <span className="text-quiet">never</span>) },
    { id: "expires", header: "Expires", from: "lg", cell: (t) => <RelativeTime time={t.expiresAt} /> },
    { id: "actions", header: "", align: "end", cell: (t) => (t.state === "active" ? <Button kind="quiet" aria-label={`Revoke ${t.name}`} onClick={() => setOpen(t)}>Revoke</Button> : null) },
  ];
  return (
    <>
      <Section title={all ? "API tokens of everybody" : "Your API tokens"} flush actions={<CommandButton command={add} />}>
        {tokens.loading && <div className="p-3"><Skeleton className="h-16 w-full" /></div>}
        {!tokens.loading && tokens.rows.length === 0 && (
          <div className="flex flex-col items-start gap-2 px-3 py-4">
            <p className="text-soft">There is none. A token lets a program use the admin API in your name, with the scopes that you choose and never more than you may:</p>
            <CopyableCode label="Call with a token" text={`curl -H 'Authorization: Bearer fgp_…' ${window.location.origin}/api/v1/status`} />
          </div>
        )}
        {tokens.rows.length > 0 && <PlainTable label="API tokens" columns={columns} rows={tokens.rows} rowKey={(t) => t.id} />}
        {tokens.hasMore && <Button kind="quiet" className="w-full" onClick={tokens.loadMore}>Show more</Button>}
      </Section>
      {open === "add" && <AddToken onClose={close} />}
      {open !== undefined && open !== "add" && <RevokeToken token={open} onClose={close} />}
    </>
  );
}

function AddToken({ onClose }: { onClose: () => void }) {
  const add = useAddToken();
  const session = useSession();
  const [name, setName] = useState("");
  const [days, setDays] = useState("90");
  const [chosen, setChosen] = useState<readonly SchemaScope[]>(["read"]);
  const [tried, setTried] = useState(false);
  const wrongName = name.trim() === "" ? "Say what it is for: it is how you tell your tokens apart." : undefined;
  const wrongDays = /^\d+$/.test(days) && Number(days) >= 1 && Number(days) <= 400 ? undefined : "From 1 to 400 days.";
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (wrongName || wrongDays || chosen.length === 0) return;
    add.mutate({ body: { name: name.trim(), days: Number(days), scopes: [...chosen] }, decision: crypto.randomUUID() });
  };
  if (add.data) {
    return (
      <Dialog open onClose={onClose} title={`API token ${add.data.token.name}`} description={<>It ends <RelativeTime time={add.data.token.expiresAt} />. Only its hash is kept.</>}>
        <DialogBody><CopyOnce secret={add.data.secret} what="token" /></DialogBody>
        <DialogActions><Button kind="primary" onClick={onClose}>Done</Button></DialogActions>
      </Dialog>
    );
  }
  return (
    <Dialog open onClose={onClose} title="Make an API token" description="It acts in your name and can do no more than you may, whatever its scopes.">
      <form onSubmit={submit} className="contents">
        <DialogBody>
          <Field label="What it is for" error={tried ? wrongName : undefined}>
            <Input value={name} autoFocus maxLength={128} placeholder="nightly export" onChange={(e) => setName(e.target.value)} />
          </Field>
          <Field label="Days until it expires" error={tried ? wrongDays : undefined}>
            <Input value={days} inputMode="numeric" onChange={(e) => setDays(e.target.value)} className="w-24!" />
          </Field>
          <fieldset className="flex flex-col gap-1.5">
            <legend className="mb-1 font-medium">It may</legend>
            {scopes.map(({ scope, may }) => {
              const own = session.scopes.includes(scope);
              return (
                <label key={scope} className={`flex gap-2 ${own ? "" : "text-quiet"}`}>
                  <input
                    type="checkbox" className="mt-0.5" disabled={!own} checked={chosen.includes(scope)}
                    onChange={(e) => setChosen(e.target.checked ? [...chosen, scope] : chosen.filter((s) => s !== scope))}
                  />
                  <span><code>{scope}</code> <span className="text-soft">{own ? may : `not given to the role ${session.role}`}</span></span>
                </label>
              );
            })}
            {tried && chosen.length === 0 && <p className="text-xs text-bad">Choose at least one.</p>}
          </fieldset>
          {add.error && <ProblemNotice problem={asProblem(add.error)} />}
        </DialogBody>
        <DialogActions>
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind="primary" busy={add.isPending}>Make the token</Button>
        </DialogActions>
      </form>
    </Dialog>
  );
}

function RevokeToken({ token, onClose }: { token: SchemaToken; onClose: () => void }) {
  const revoke = useRevokeToken();
  return (
    <ConfirmDialog
      open
      onClose={onClose}
      title={`Revoke ${token.name}`}
      consequence={<>This cannot be undone. Programs that use it are refused from their next request on; {token.usedAt ? <>it was last used <RelativeTime time={token.usedAt} />.</> : "it was never used."}</>}
      action="Revoke"
      busy={revoke.isPending}
      problem={revoke.error ? asProblem(revoke.error) : undefined}
      onConfirm={() =>
        revoke.mutate(token.id, {
          onSuccess: () => {
            onClose();
            showToast(`${token.name} is revoked`, { tone: "good" });
          },
        })
      }
    />
  );
}
