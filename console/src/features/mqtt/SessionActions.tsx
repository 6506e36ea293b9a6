import { Trash2, Unplug } from "lucide-react";
import { useState } from "react";
import { asProblem } from "@/api/problem";
import type { SchemaMqttSessionDetail } from "@/api/schema.gen";
import { CommandButton } from "@/components/Button";
import { ConfirmDialog } from "@/components/Dialog";
import { Field, Input } from "@/components/Field";
import { showToast } from "@/components/toasts";
import { useCommands, type Command } from "@/hooks/commands";
import { plural } from "@/lib/format";
import { useMay, useSession } from "@/session/session";
import { useDisconnect, useEnd } from "./api";

/** What can be decided about a session; each is a command with a key, too. */
export function SessionActions({ detail }: { detail: SchemaMqttSessionDetail }) {
  const { session } = detail;
  const [open, setOpen] = useState<"disconnect" | "end">();
  const may = useMay("devices.write");
  const { role } = useSession();
  const refused = may ? undefined : `The role ${role} may not change devices; ask an operator or owner.`;
  const commands: Command[] = [
    { id: "disconnect-session", group: "Do", label: "Disconnect", icon: Unplug, keys: "x", refused: refused ?? (session.connected ? undefined : "It is away: there is no connection to close."), run: () => setOpen("disconnect") },
    { id: "end-session", group: "Do", label: "End session", icon: Trash2, refused, run: () => setOpen("end") },
  ];
  useCommands(commands.map((command) => ({ ...command, label: `${command.label} (${session.client})` })));
  return (
    <div className="flex flex-wrap gap-2">
      {commands.map((command) => <CommandButton key={command.id} command={command} />)}
      {open && <DecisionDialog what={open} detail={detail} onClose={() => setOpen(undefined)} />}
    </div>
  );
}

function DecisionDialog({ what, detail: { session, subscriptions }, onClose }: { what: "disconnect" | "end"; detail: SchemaMqttSessionDetail; onClose: () => void }) {
  const disconnect = useDisconnect();
  const end = useEnd();
  const [reason, setReason] = useState("");
  const decision = what === "end" ? end : disconnect;
  const waiting = session.queued + session.inFlight;
  return (
    <ConfirmDialog
      open
      onClose={onClose}
      title={what === "end" ? `End the session of ${session.client}` : `Disconnect ${session.client}`}
      consequence={
        what === "end" ? (
          <>
            This cannot be undone. It {session.connected && "closes its connection and "}forgets {plural(subscriptions.length, "subscription")} and {waiting === 0 ? "no message" : plural(waiting, "message")} that
            {waiting === 1 ? " waits" : " wait"}; its will is published. The client begins anew when it connects again.
          </>
        ) : (
          <>Its connection closes; its session with {plural(subscriptions.length, "subscription")} stays, and messages wait in it. Nothing keeps it from connecting again: quarantine the device for that.</>
        )
      }
      action={what === "end" ? "End the session" : "Disconnect"}
      typeName={what === "end" ? session.client : undefined}
      busy={decision.isPending}
      problem={decision.error ? asProblem(decision.error) : undefined}
      onConfirm={() =>
        decision.mutate(
          { mqttSession: session.id, reason: reason.trim() },
          {
            onSuccess: ({ nodes, missing }) => {
              onClose();
              if (nodes.length === 0) showToast(`${session.client} had changed meanwhile: nothing was done`, { tone: "neutral" });
              else showToast(`${what === "end" ? `The session of ${session.client} has ended` : `${session.client} is disconnected`}${missing.length > 0 ? `; ${missing.join(", ")} did not answer` : ""}`, { tone: "good" });
            },
          },
        )
      }
    >
      <Field label="Reason" optional hint="For the audit log.">
        <Input value={reason} maxLength={256} autoFocus={what === "disconnect"} onChange={(e) => setReason(e.target.value)} />
      </Field>
    </ConfirmDialog>
  );
}
