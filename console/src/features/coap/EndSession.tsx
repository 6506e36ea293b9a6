import { Unplug } from "lucide-react";
import { useState } from "react";
import { asProblem } from "@/api/problem";
import type { SchemaCoapPeer } from "@/api/schema.gen";
import { CommandButton } from "@/components/Button";
import { ConfirmDialog } from "@/components/Dialog";
import { Field, Input } from "@/components/Field";
import { showToast } from "@/components/toasts";
import { useCommands, type Command } from "@/hooks/commands";
import { sessionNoun } from "@/lib/coap";
import { plural } from "@/lib/format";
import { useMay, useSession } from "@/session/session";
import { useEndSession } from "./api";

/** Ends a DTLS session or a connection after a question; a command with a key, too. */
export function EndSession({ of }: { of: SchemaCoapPeer }) {
  const [open, setOpen] = useState(false);
  const [reason, setReason] = useState("");
  const end = useEndSession();
  const may = useMay("devices.write");
  const { role } = useSession();
  const noun = sessionNoun(of.listener);
  const command: Command = {
    id: "end-coap-session", group: "Do", label: `End ${noun}`, icon: Unplug, keys: "x",
    refused: may ? undefined : `The role ${role} may not change devices; ask an operator or owner.`, run: () => setOpen(true),
  };
  useCommands([{ ...command, label: `${command.label} (${of.source})` }]);
  const caller = of.principal || of.source;
  return (
    <div>
      <CommandButton command={command} />
      {open && (
        <ConfirmDialog
          open
          onClose={() => setOpen(false)}
          title={`End the ${noun} of ${caller}`}
          consequence={<>Its client is told so{of.observations > 0 && <>, and {plural(of.observations, "observation")} {of.observations === 1 ? "ends" : "end"}</>}. Nothing keeps it from coming again: quarantine the device for that.</>}
          action={`End the ${noun}`}
          busy={end.isPending}
          problem={end.error ? asProblem(end.error) : undefined}
          onConfirm={() =>
            end.mutate(
              { coapPeer: of.id, reason: reason.trim() },
              {
                onSuccess: ({ nodes }) => {
                  setOpen(false);
                  if (nodes.length === 0) showToast("It had ended meanwhile: nothing was done", { tone: "neutral" });
                  else showToast(`The ${noun} of ${caller} has ended`, { tone: "good" });
                },
              },
            )
          }
        >
          <Field label="Reason" optional hint="For the audit log.">
            <Input value={reason} maxLength={256} autoFocus onChange={(e) => setReason(e.target.value)} />
          </Field>
        </ConfirmDialog>
      )}
    </div>
  );
}
