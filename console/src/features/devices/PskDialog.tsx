import { useState, type FormEvent } from "react";
import { asProblem } from "@/api/problem";
import type { SchemaDevice } from "@/api/schema.gen";
import { Button } from "@/components/Button";
import { CopyOnce } from "@/components/Copy";
import { Dialog, DialogActions, DialogBody } from "@/components/Dialog";
import { Field, Input } from "@/components/Field";
import { ProblemNotice } from "@/components/ProblemNotice";
import { useSetPsk } from "./api";

const digits = /^([0-9a-f]{2}){16,64}$/i;

/** Sets a pre-shared key, one that is made or one that the device has already, and shows it once. */
export function PskDialog({ device, onClose }: { device: SchemaDevice; onClose: () => void }) {
  const set = useSetPsk();
  const [decision, setDecision] = useState(() => crypto.randomUUID());
  const [had] = useState(device.pskIdentity); // when the dialog opened
  const [identity, setIdentity] = useState(had ?? "");
  const [key, setKey] = useState("");
  const [sent, setSent] = useState(false);
  const wrong = key === "" || digits.test(key) ? undefined : "32 to 128 hexadecimal digits, two for each byte.";
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setSent(true);
    if (!wrong) set.mutate({ device: device.id, body: { ...(identity && { identity }), ...(key && { key }) }, decision });
  };
  // What was refused is another decision once it reads otherwise.
  const changed = (take: (value: string) => void) => (event: { target: { value: string } }) => {
    take(event.target.value);
    if (set.isError) {
      set.reset();
      setDecision(crypto.randomUUID());
    }
  };
  if (set.data) {
    return (
      <Dialog open onClose={onClose} title={`Pre-shared key of ${device.id}`}>
        <DialogBody>
          <p>Identity <code className="break-all">{set.data.identity}</code></p>
          <CopyOnce secret={set.data.key} what="key" />
        </DialogBody>
        <DialogActions>
          <Button kind="primary" onClick={onClose}>Done</Button>
        </DialogActions>
      </Dialog>
    );
  }
  return (
    <Dialog
      open
      onClose={onClose}
      title={had ? `Replace the pre-shared key of ${device.id}` : `Set a pre-shared key for ${device.id}`}
      description={had ? "DTLS sessions that were made by the present key end within a second." : "By it the device makes DTLS sessions, for CoAP."}
    >
      <form onSubmit={submit} className="contents" noValidate>
        <DialogBody>
          <Field label="Identity" optional hint={`By which the device names the key. Left out, it is ${device.id}.`}>
            <Input value={identity} maxLength={128} autoFocus className="font-mono" onChange={changed(setIdentity)} />
          </Field>
          <Field label="Key" optional hint="In hexadecimal, where the device has one already. Left out, one of 32 bytes is made." error={sent ? wrong : undefined}>
            <Input value={key} maxLength={128} type="password" className="font-mono" onChange={changed(setKey)} />
          </Field>
          {set.error && <ProblemNotice problem={asProblem(set.error)} />}
        </DialogBody>
        <DialogActions>
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind="primary" busy={set.isPending}>{had ? "Replace the key" : "Set the key"}</Button>
        </DialogActions>
      </form>
    </Dialog>
  );
}
