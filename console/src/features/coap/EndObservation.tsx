import { useState } from "react";
import { asProblem } from "@/api/problem";
import type { SchemaCoapObservation } from "@/api/schema.gen";
import { Button } from "@/components/Button";
import { ConfirmDialog } from "@/components/Dialog";
import { Field, Input } from "@/components/Field";
import { showToast } from "@/components/toasts";
import { useMay, useSession } from "@/session/session";
import { useEndObservation } from "./api";

/** Ends an observation after a question. */
export function EndObservation({ of }: { of: SchemaCoapObservation }) {
  const [open, setOpen] = useState(false);
  const [reason, setReason] = useState("");
  const end = useEndObservation();
  const may = useMay("devices.write");
  const { role } = useSession();
  return (
    <>
      <Button kind="quiet" className="h-6" disabled={!may} title={may ? undefined : `The role ${role} may not change devices; ask an operator or owner.`} onClick={() => setOpen(true)}>End</Button>
      {open && (
        <ConfirmDialog
          open
          onClose={() => setOpen(false)}
          title={`End the observation of ${of.path}`}
          consequence={<>Its client, {of.principal || of.source}, is told 5.03 and hears nothing more of it. Nothing keeps it from observing again: quarantine the device for that.</>}
          action="End the observation"
          busy={end.isPending}
          problem={end.error ? asProblem(end.error) : undefined}
          onConfirm={() =>
            end.mutate(
              { coapObservation: of.id, reason: reason.trim() },
              {
                onSuccess: ({ nodes }) => {
                  setOpen(false);
                  if (nodes.length === 0) showToast("It had ended meanwhile: nothing was done", { tone: "neutral" });
                  else showToast(`The observation of ${of.path} has ended`, { tone: "good" });
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
    </>
  );
}
