import { Ban, KeyRound, Pencil, ShieldAlert, ShieldCheck } from "lucide-react";
import { useState, type FormEvent } from "react";
import { asProblem } from "@/api/problem";
import { Button, CommandButton } from "@/components/Button";
import { ConfirmDialog, Dialog, DialogActions, DialogBody } from "@/components/Dialog";
import { Field, Input } from "@/components/Field";
import { SecretDialog } from "@/components/SecretDialog";
import { showToast } from "@/components/toasts";
import { RelativeTime } from "@/components/values";
import { useCommands, type Command } from "@/hooks/commands";
import { useUndo } from "@/hooks/undo";
import { plural } from "@/lib/format";
import { useMay, useSession } from "@/session/session";
import { useIssueToken, useQuarantine, useRelease, useRevoke, type SeenDevice } from "./api";
import { EditDevice } from "./EditDevice";

type Open = "quarantine" | "revoke" | "token" | "edit";

/** What can be decided about a device; each is a command with a key, too. */
export function DeviceActions({ seen }: { seen: SeenDevice }) {
  const { device } = seen;
  const [open, setOpen] = useState<Open>();
  const may = useMay("devices.write");
  const { role } = useSession();
  const quarantine = useQuarantine();
  const release = useRelease();
  const undoable = useUndo();
  if (device.state === "revoked") return null;

  const refused = may ? undefined : `The role ${role} may not change devices; ask an operator or owner.`;
  const releasing = () =>
    void undoable(
      () => release.mutateAsync({ device: device.id }),
      `${device.id} is released`,
      () => quarantine.mutateAsync({ device: device.id, reason: "Undid the release" }),
    );
  const commands: Command[] = [
    device.state === "quarantined"
      ? { id: "release", group: "Do", label: "Release", icon: ShieldCheck, keys: "r", refused, run: releasing }
      : { id: "quarantine", group: "Do", label: "Quarantine", icon: ShieldAlert, keys: "x", refused, run: () => setOpen("quarantine") },
    { id: "new-token", group: "Do", label: "New token", icon: KeyRound, keys: "t", refused, run: () => setOpen("token") },
    { id: "edit-device", group: "Do", label: "Change", icon: Pencil, keys: "e", refused, run: () => setOpen("edit") },
    { id: "revoke-device", group: "Do", label: "Revoke", icon: Ban, refused, run: () => setOpen("revoke") },
  ];
  const close = () => setOpen(undefined);
  return (
    <div className="flex flex-wrap gap-2">
      <DeviceCommands id={device.id} commands={commands} />
      {commands.map((command) => <CommandButton key={command.id} command={command} />)}
      {open === "quarantine" && <QuarantineDialog device={device.id} onClose={close} />}
      {open === "revoke" && <RevokeDialog seen={seen} onClose={close} />}
      {open === "token" && <TokenDialog seen={seen} onClose={close} />}
      {open === "edit" && <EditDevice seen={seen} onClose={close} />}
    </div>
  );
}

/** In the palette the commands say which device they are about. */
function DeviceCommands({ id, commands }: { id: string; commands: readonly Command[] }) {
  useCommands(commands.map((command) => ({ ...command, label: `${command.label} (${id})` })));
  return null;
}

function QuarantineDialog({ device, onClose }: { device: string; onClose: () => void }) {
  const quarantine = useQuarantine();
  const release = useRelease();
  const undoable = useUndo();
  const [reason, setReason] = useState("");
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    const done = await undoable(
      () => quarantine.mutateAsync({ device, reason: reason.trim() }),
      `${device} is quarantined`,
      () => release.mutateAsync({ device, reason: "Undid the quarantine" }),
    );
    if (done) onClose();
  };
  return (
    <Dialog
      open
      onClose={onClose}
      title={`Quarantine ${device}`}
      description="Nothing that it sends is let through and its connections close within a second, until somebody releases it. Its tokens stay."
    >
      <form onSubmit={(event) => void submit(event)} className="contents">
        <DialogBody>
          <Field label="Reason" optional hint="For the audit log.">
            <Input value={reason} maxLength={256} autoFocus onChange={(e) => setReason(e.target.value)} />
          </Field>
        </DialogBody>
        <DialogActions>
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind="primary" busy={quarantine.isPending}>Quarantine</Button>
        </DialogActions>
      </form>
    </Dialog>
  );
}

function RevokeDialog({ seen: { device }, onClose }: { seen: SeenDevice; onClose: () => void }) {
  const revoke = useRevoke();
  const [reason, setReason] = useState("");
  return (
    <ConfirmDialog
      open
      onClose={onClose}
      title={`Revoke ${device.id}`}
      consequence={
        <>
          This cannot be undone. It deletes all credentials of the device and closes its connections within a second; the id is never given again.{" "}
          {device.presence && (
            <>
              It was last seen <RelativeTime time={device.presence.seenAt} /> and made {plural(device.presence.exchangesToday, "exchange")} today.{" "}
            </>
          )}
          To cut it off for a while, quarantine it instead.
        </>
      }
      action="Revoke for good"
      typeName={device.id}
      busy={revoke.isPending}
      problem={revoke.error ? asProblem(revoke.error) : undefined}
      onConfirm={() =>
        revoke.mutate(
          { device: device.id, reason: reason.trim() },
          {
            onSuccess: () => {
              onClose();
              showToast(`${device.id} is revoked`, { tone: "good" });
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

function TokenDialog({ seen: { device }, onClose }: { seen: SeenDevice; onClose: () => void }) {
  const issue = useIssueToken();
  const [valid] = useState(device.tokens);
  const [decision] = useState(() => crypto.randomUUID());
  return (
    <SecretDialog
      what="token"
      of={device.id}
      valid={valid}
      secret={issue.data}
      busy={issue.isPending}
      problem={issue.error ? asProblem(issue.error) : undefined}
      onIssue={(keep) => issue.mutate({ device: device.id, keep, decision: `${decision}${keep ? "-keep" : ""}` })}
      onClose={onClose}
    />
  );
}
