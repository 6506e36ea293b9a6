import { Ban, KeyRound, Pencil } from "lucide-react";
import { useState } from "react";
import { asProblem } from "@/api/problem";
import { CommandButton } from "@/components/Button";
import { ConfirmDialog } from "@/components/Dialog";
import { Field, Input } from "@/components/Field";
import { SecretDialog } from "@/components/SecretDialog";
import { showToast } from "@/components/toasts";
import { RelativeTime } from "@/components/values";
import { useCommands, type Command } from "@/hooks/commands";
import { plural } from "@/lib/format";
import { useMay, useSession } from "@/session/session";
import { useIssueKey, useRevoke, type SeenApp } from "./api";
import { EditApp } from "./EditApp";

/** What can be decided about an app; each is a command with a key, too. */
export function AppActions({ seen }: { seen: SeenApp }) {
  const { app } = seen;
  const [open, setOpen] = useState<"key" | "edit" | "revoke">();
  const may = useMay("apps.write");
  const { role } = useSession();
  if (app.state === "revoked") return null;
  const refused = may ? undefined : `The role ${role} may not change apps; ask a developer, operator or owner.`;
  const commands: Command[] = [
    { id: "new-key", group: "Do", label: "New key", icon: KeyRound, keys: "t", refused, run: () => setOpen("key") },
    { id: "edit-app", group: "Do", label: "Change", icon: Pencil, keys: "e", refused, run: () => setOpen("edit") },
    { id: "revoke-app", group: "Do", label: "Revoke", icon: Ban, refused, run: () => setOpen("revoke") },
  ];
  const close = () => setOpen(undefined);
  return (
    <div className="flex flex-wrap gap-2">
      <AppCommands id={app.id} commands={commands} />
      {commands.map((command) => <CommandButton key={command.id} command={command} />)}
      {open === "key" && <KeyDialog seen={seen} onClose={close} />}
      {open === "edit" && <EditApp seen={seen} onClose={close} />}
      {open === "revoke" && <RevokeDialog seen={seen} onClose={close} />}
    </div>
  );
}

/** In the palette the commands say which app they are about. */
function AppCommands({ id, commands }: { id: string; commands: readonly Command[] }) {
  useCommands(commands.map((command) => ({ ...command, label: `${command.label} (${id})` })));
  return null;
}

function KeyDialog({ seen: { app }, onClose }: { seen: SeenApp; onClose: () => void }) {
  const issue = useIssueKey();
  const [valid] = useState(app.keys);
  const [decision] = useState(() => crypto.randomUUID());
  return (
    <SecretDialog
      what="key"
      of={app.id}
      valid={valid}
      secret={issue.data}
      busy={issue.isPending}
      problem={issue.error ? asProblem(issue.error) : undefined}
      onIssue={(keep) => issue.mutate({ app: app.id, keep, decision: `${decision}${keep ? "-keep" : ""}` })}
      onClose={onClose}
    />
  );
}

function RevokeDialog({ seen: { app }, onClose }: { seen: SeenApp; onClose: () => void }) {
  const revoke = useRevoke();
  const [reason, setReason] = useState("");
  return (
    <ConfirmDialog
      open
      onClose={onClose}
      title={`Revoke ${app.id}`}
      consequence={
        <>
          This cannot be undone. {app.keys > 0 ? `It deletes ${plural(app.keys, "key")} and closes` : "It closes"} the app's connections within a second; the id is never given again.
          {app.presence && (
            <>
              {" "}It was last seen <RelativeTime time={app.presence.seenAt} /> and made {plural(app.presence.exchangesToday, "exchange")} today.
            </>
          )}
        </>
      }
      action="Revoke for good"
      typeName={app.id}
      busy={revoke.isPending}
      problem={revoke.error ? asProblem(revoke.error) : undefined}
      onConfirm={() =>
        revoke.mutate(
          { app: app.id, reason: reason.trim() },
          {
            onSuccess: () => {
              onClose();
              showToast(`${app.id} is revoked`, { tone: "good" });
            },
          },
        )
      }
    >
      <Field label="Reason" optional hint="For the audit log.">
        <Input value={reason} maxLength={256} onChange={(e) => setReason(e.target.value)} />
      </Field>
    </ConfirmDialog>
  );
}
