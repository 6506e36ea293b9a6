import { useState, type FormEvent } from "react";
import { asProblem } from "@/api/problem";
import { Button } from "@/components/Button";
import { CopyOnce } from "@/components/Copy";
import { Dialog, DialogActions, DialogBody } from "@/components/Dialog";
import { Field, Input } from "@/components/Field";
import { ProblemNotice } from "@/components/ProblemNotice";
import { useAddApp } from "./api";
import { parseScopes } from "./scopes";
import { ScopesField } from "./ScopesField";

const identifier = /^[A-Za-z0-9._:-]{1,128}$/;

/** Registers an app and shows its key once. */
export default function AddApp({ onClose }: { onClose: () => void }) {
  const add = useAddApp();
  const [decision, setDecision] = useState(() => crypto.randomUUID());
  const [id, setId] = useState("");
  const [name, setName] = useState("");
  const [scopes, setScopes] = useState("");
  const [sent, setSent] = useState(false);
  const wrong = identifier.test(id) ? undefined : "1 to 128 letters, digits, dots, colons, hyphens or underscores.";
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setSent(true);
    const chosen = parseScopes(scopes);
    if (!wrong) add.mutate({ body: { id, ...(name && { name }), ...(chosen.length > 0 && { scopes: chosen }) }, decision });
  };
  // What was refused is another decision once it reads otherwise.
  const change = (set: (value: string) => void) => (value: string) => {
    set(value);
    if (add.isError) {
      add.reset();
      setDecision(crypto.randomUUID());
    }
  };
  if (add.data) {
    return (
      <Dialog open onClose={onClose} title={`${add.data.app.id} is registered`}>
        <DialogBody>
          <CopyOnce secret={add.data.key} what="key" />
          <p className="text-soft">
            It says who it is with this key: as <code>Authorization: Bearer</code> over HTTP, as the password over MQTT with its id as the name, in option 65002 over CoAP.
          </p>
        </DialogBody>
        <DialogActions>
          <Button kind="primary" onClick={onClose}>Done</Button>
        </DialogActions>
      </Dialog>
    );
  }
  return (
    <Dialog open onClose={onClose} title="Add an app">
      <form onSubmit={submit} className="contents" noValidate>
        <DialogBody>
          <Field label="Id" hint="How it is named in the log. It cannot be changed later." error={sent ? wrong : undefined}>
            <Input value={id} maxLength={128} autoFocus className="font-mono" onChange={(e) => change(setId)(e.target.value)} />
          </Field>
          <Field label="Name" optional hint="For people.">
            <Input value={name} maxLength={128} onChange={(e) => change(setName)(e.target.value)} />
          </Field>
          <ScopesField value={scopes} onChange={change(setScopes)} />
          {add.error && <ProblemNotice problem={asProblem(add.error)} />}
        </DialogBody>
        <DialogActions>
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind="primary" busy={add.isPending}>Add the app</Button>
        </DialogActions>
      </form>
    </Dialog>
  );
}
