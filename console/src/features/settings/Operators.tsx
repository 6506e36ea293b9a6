import { Ban, Ellipsis, Link2, Trash2, UserCheck, UserPlus } from "lucide-react";
import { useState, type FormEvent } from "react";
import { asProblem } from "@/api/problem";
import type { SchemaOperator, SchemaOperatorWithInvitation, SchemaRole } from "@/api/schema.gen";
import { Badge, StateBadge } from "@/components/Badge";
import { Button, CommandButton } from "@/components/Button";
import { CopyOnce } from "@/components/Copy";
import { ConfirmDialog, Dialog, DialogActions, DialogBody } from "@/components/Dialog";
import { Skeleton } from "@/components/EmptyState";
import { Field, Input, Select } from "@/components/Field";
import { Menu, MenuItem, MenuLabel, MenuLine } from "@/components/Menu";
import { Section } from "@/components/Page";
import { PlainTable, type PlainColumn } from "@/components/PlainTable";
import { ProblemNotice } from "@/components/ProblemNotice";
import { showToast } from "@/components/toasts";
import { RelativeTime } from "@/components/values";
import { useCommands, type Command } from "@/hooks/commands";
import { useUndo } from "@/hooks/undo";
import { plural } from "@/lib/format";
import { useMay, useSession } from "@/session/session";
import { useAddOperator, useInvite, useOperators, useRemoveOperator, useUpdateOperator } from "./api";
import { checkOperatorName, invitationLink, isLastOwner, roles } from "./roles";

type Open = { what: "add" } | { what: "invite" | "remove"; operator: SchemaOperator };

/** Who may decide, and in which role. */
export function Operators() {
  const operators = useOperators();
  const may = useMay("access.write");
  const { role, name } = useSession();
  const [open, setOpen] = useState<Open>();
  const refused = may ? undefined : `The role ${role} may not decide about operators; ask an owner.`;
  const add: Command = { id: "add-operator", group: "Do", label: "Add an operator", icon: UserPlus, keys: "n", refused, run: () => setOpen({ what: "add" }) };
  useCommands([add]);
  if (operators.problem) return <ProblemNotice problem={operators.problem} onRetry={operators.retry} />;
  const close = () => setOpen(undefined);
  const columns: readonly PlainColumn<SchemaOperator>[] = [
    { id: "name", header: "Name", cell: (o) => <span className="font-medium">{o.name}{o.name === name && <span className="font-normal text-quiet"> (you)</span>}</span> },
    { id: "role", header: "Role", cell: (o) => o.role },
    { id: "state", header: "State", cell: (o) => <StateBadge state={o.state} /> },
    { id: "seen", header: "Last request", from: "sm", cell: (o) => (o.seenAt ? <RelativeTime time={o.seenAt} /> : <span className="text-quiet">never</span>) },
    { id: "sessions", header: "Sessions", align: "end", from: "md", cell: (o) => o.sessions ?? 0 },
    { id: "tokens", header: "API tokens", align: "end", from: "md", cell: (o) => o.tokens ?? 0 },
    { id: "created", header: "Added", from: "lg", cell: (o) => <RelativeTime time={o.createdAt} /> },
    ...(may ? [{ id: "actions", header: "", align: "end" as const, cell: (o: SchemaOperator) => <OperatorMenu operator={o} all={operators.rows} onOpen={setOpen} /> }] : []),
  ];
  return (
    <div className="flex flex-col gap-4">
      <Section title="Operators" flush actions={<CommandButton command={add} />}>
        {operators.loading && <div className="p-3"><Skeleton className="h-16 w-full" /></div>}
        {!operators.loading && operators.rows.length === 0 && (
          <p className="px-3 py-4 text-soft">
            {refused ? "There is none yet." : "There is none yet: whoever holds the token of the data directory decides. Make yourself the owner, then add those who work with you."}
          </p>
        )}
        {operators.rows.length > 0 && <PlainTable label="Operators" columns={columns} rows={operators.rows} rowKey={(o) => o.name} />}
        {operators.hasMore && <Button kind="quiet" className="w-full" onClick={operators.loadMore}>Show more</Button>}
      </Section>
      <Section title="What roles may do">
        <dl className="grid grid-cols-[auto_minmax(0,1fr)] gap-x-4 gap-y-1">
          {roles.map(({ role: r, may: what }) => (
            <div key={r} className="contents"><dt className="font-medium">{r}</dt><dd className="text-soft">{what}</dd></div>
          ))}
        </dl>
      </Section>
      {open?.what === "add" && <AddOperator onClose={close} />}
      {open?.what === "invite" && <InviteOperator operator={open.operator} onClose={close} />}
      {open?.what === "remove" && <RemoveOperator operator={open.operator} onClose={close} />}
    </div>
  );
}

function OperatorMenu({ operator, all, onOpen }: { operator: SchemaOperator; all: readonly SchemaOperator[]; onOpen: (open: Open) => void }) {
  const update = useUpdateOperator();
  const undoable = useUndo();
  const last = isLastOwner(operator, all);
  const disabled = operator.state === "disabled";
  const change = (role: SchemaRole) =>
    void undoable(() => update.mutateAsync({ operator, update: { role } }), `${operator.name} is ${role} now`, () => update.mutateAsync({ operator, update: { role: operator.role } }));
  const setDisabled = (next: boolean) =>
    void undoable(
      () => update.mutateAsync({ operator, update: { disabled: next } }),
      next ? `${operator.name} is disabled; their sessions are over and their tokens do not work` : `${operator.name} may sign in again`,
      () => update.mutateAsync({ operator, update: { disabled: !next } }),
    );
  return (
    <Menu trigger={<Button kind="quiet" icon={Ellipsis} aria-label={`What can be decided about ${operator.name}`} className="px-2!" />}>
      {last && <MenuLabel><span className="block max-w-64 whitespace-normal">The last active owner stays one: otherwise nobody could decide about operators. Make somebody else an owner first.</span></MenuLabel>}
      <MenuLabel>Role</MenuLabel>
      {roles.map(({ role }) => (
        <MenuItem key={role} disabled={role === operator.role || last} onSelect={() => change(role)}>
          {role === operator.role ? `${role}, as now` : `Make ${role}`}
        </MenuItem>
      ))}
      <MenuLine />
      <MenuItem icon={Link2} disabled={disabled} onSelect={() => onOpen({ what: "invite", operator })}>{operator.state === "invited" ? "New invitation" : "Link for a new password"}</MenuItem>
      {disabled ? (
        <MenuItem icon={UserCheck} onSelect={() => setDisabled(false)}>Enable</MenuItem>
      ) : (
        <MenuItem icon={Ban} disabled={last} onSelect={() => setDisabled(true)}>Disable</MenuItem>
      )}
      <MenuItem icon={Trash2} danger disabled={last} onSelect={() => onOpen({ what: "remove", operator })}>Remove</MenuItem>
    </Menu>
  );
}

function AddOperator({ onClose }: { onClose: () => void }) {
  const add = useAddOperator();
  const [decision] = useState(() => crypto.randomUUID());
  const [name, setName] = useState("");
  const [role, setRole] = useState<SchemaRole>("operator");
  const [tried, setTried] = useState(false);
  const wrong = checkOperatorName(name);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (!wrong) add.mutate({ body: { name, role }, decision: `${decision}-${role}-${name}`.slice(0, 128) });
  };
  if (add.data) return <InvitationDialog invitation={add.data} onClose={onClose} />;
  return (
    <Dialog open onClose={onClose} title="Add an operator" description="You get a link for them, which works once: with it they choose a password.">
      <form onSubmit={submit} className="contents">
        <DialogBody>
          <Field label="Name" error={tried ? wrong : undefined} hint="By which they sign in, and which stands in the audit log.">
            <Input value={name} autoFocus maxLength={64} onChange={(e) => setName(e.target.value)} />
          </Field>
          <Field label="Role" hint={`Of this role one ${roles.find((r) => r.role === role)?.may}.`}>
            <Select value={role} onChange={(e) => setRole(e.target.value as SchemaRole)}>
              {roles.map((r) => <option key={r.role} value={r.role}>{r.role}</option>)}
            </Select>
          </Field>
          {add.error && <ProblemNotice problem={asProblem(add.error)} />}
        </DialogBody>
        <DialogActions>
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind="primary" busy={add.isPending}>Add and make the link</Button>
        </DialogActions>
      </form>
    </Dialog>
  );
}

function InvitationDialog({ invitation: { operator, token, expiresAt }, onClose }: { invitation: SchemaOperatorWithInvitation; onClose: () => void }) {
  return (
    <Dialog open onClose={onClose} title={`Invitation of ${operator.name}`} description={<>Give this link to {operator.name} over a channel that you trust. It works once and ends <RelativeTime time={expiresAt} />.</>}>
      <DialogBody><CopyOnce secret={invitationLink(window.location.origin, token)} what="link" /></DialogBody>
      <DialogActions><Button kind="primary" onClick={onClose}>Done</Button></DialogActions>
    </Dialog>
  );
}

function InviteOperator({ operator, onClose }: { operator: SchemaOperator; onClose: () => void }) {
  const invite = useInvite();
  if (invite.data) return <InvitationDialog invitation={invite.data} onClose={onClose} />;
  return (
    <ConfirmDialog
      open
      onClose={onClose}
      title={`New link for ${operator.name}`}
      consequence={operator.state === "invited" ? "An earlier link stops working." : "With it they set a new password. An earlier link stops working."}
      action="Make the link"
      busy={invite.isPending}
      problem={invite.error ? asProblem(invite.error) : undefined}
      onConfirm={() => invite.mutate(operator.name)}
    />
  );
}

function RemoveOperator({ operator, onClose }: { operator: SchemaOperator; onClose: () => void }) {
  const remove = useRemoveOperator();
  return (
    <ConfirmDialog
      open
      onClose={onClose}
      title={`Remove ${operator.name}`}
      consequence={`This cannot be undone. It ends ${plural(operator.sessions ?? 0, "session")} and revokes ${plural(operator.tokens ?? 0, "API token")}; programs that use them are cut off at once. What they decided stays in the audit log. To keep them out for a while, disable them instead.`}
      action="Remove for good"
      typeName={operator.name}
      busy={remove.isPending}
      problem={remove.error ? asProblem(remove.error) : undefined}
      onConfirm={() =>
        remove.mutate(operator.name, {
          onSuccess: () => {
            onClose();
            showToast(`${operator.name} is removed`, { tone: "good" });
          },
        })
      }
    />
  );
}

export const Scopes = ({ scopes }: { scopes: readonly string[] }) => (
  <span className="inline-flex flex-wrap gap-1">{scopes.map((s) => <Badge key={s} icon={false}>{s}</Badge>)}</span>
);
