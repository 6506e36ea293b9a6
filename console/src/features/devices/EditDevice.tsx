import { useState, type FormEvent } from "react";
import { asProblem } from "@/api/problem";
import { Button } from "@/components/Button";
import { ChangedMeanwhile } from "@/components/ChangedMeanwhile";
import { Dialog, DialogActions, DialogBody } from "@/components/Dialog";
import { Field, Input } from "@/components/Field";
import { ProblemNotice } from "@/components/ProblemNotice";
import { showToast } from "@/components/toasts";
import { differences } from "@/lib/difference";
import { ChangedDevice, useUpdateDevice, type SeenDevice } from "./api";

const labels = { state: "State", model: "Model", firmware: "Firmware", tokens: "Tokens" };

/** Changes model and firmware of the device as one saw it; if it is no longer so, shows what differs. */
export function EditDevice({ seen, onClose }: { seen: SeenDevice; onClose: () => void }) {
  const [first] = useState(seen); // what one saw when the dialog opened
  const [model, setModel] = useState(first.device.model ?? "");
  const [firmware, setFirmware] = useState(first.device.firmware ?? "");
  const update = useUpdateDevice();
  const changed = update.error instanceof ChangedDevice ? update.error : undefined;
  const mine = {
    ...(model !== (first.device.model ?? "") && { model }),
    ...(firmware !== (first.device.firmware ?? "") && { firmware }),
  };
  const send = (etag: string | undefined) =>
    update.mutate(
      { device: first.device.id, update: mine, etag },
      {
        onSuccess: () => {
          onClose();
          showToast(`${first.device.id} is changed`, { tone: "good" });
        },
      },
    );
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (Object.keys(mine).length > 0) send(first.etag);
    else onClose();
  };
  return (
    <Dialog open onClose={onClose} title={`Change ${first.device.id}`}>
      <form onSubmit={submit} className="contents">
        <DialogBody>
          <Field label="Model" optional>
            <Input value={model} maxLength={128} autoFocus onChange={(e) => setModel(e.target.value)} />
          </Field>
          <Field label="Firmware" optional>
            <Input value={firmware} maxLength={128} onChange={(e) => setFirmware(e.target.value)} />
          </Field>
          {changed && (
            <ChangedMeanwhile
              rows={differences(labels, { ...first.device }, { ...changed.now.device }, mine)}
              changes={changed.problem.problem.changes}
              busy={update.isPending}
              onApply={() => send(changed.now.etag)}
            />
          )}
          {update.error && !changed && <ProblemNotice problem={asProblem(update.error)} />}
        </DialogBody>
        <DialogActions>
          <Button onClick={onClose}>Cancel</Button>
          {!changed && <Button type="submit" kind="primary" busy={update.isPending}>Change</Button>}
        </DialogActions>
      </form>
    </Dialog>
  );
}
