import { useState, type FormEvent } from "react";
import { asProblem } from "@/api/problem";
import { Button } from "@/components/Button";
import { ChangedMeanwhile } from "@/components/ChangedMeanwhile";
import { Dialog, DialogActions, DialogBody } from "@/components/Dialog";
import { Field, Input } from "@/components/Field";
import { ProblemNotice } from "@/components/ProblemNotice";
import { showToast } from "@/components/toasts";
import { differences } from "@/lib/difference";
import { ChangedApp, useUpdateApp, type SeenApp } from "./api";
import { parseScopes } from "./scopes";
import { ScopesField } from "./ScopesField";

const labels = { state: "State", name: "Name", scopes: "Scopes", keys: "Keys" };

/** Changes name and scopes of the app as one saw it; if it is no longer so, shows what differs. */
export function EditApp({ seen, onClose }: { seen: SeenApp; onClose: () => void }) {
  const [first] = useState(seen); // what one saw when the dialog opened
  const [name, setName] = useState(first.app.name ?? "");
  const [scopes, setScopes] = useState(first.app.scopes.join(" "));
  const update = useUpdateApp();
  const changed = update.error instanceof ChangedApp ? update.error : undefined;
  const mine = {
    ...(name !== (first.app.name ?? "") && { name }),
    ...(scopes !== first.app.scopes.join(" ") && { scopes: parseScopes(scopes) }),
  };
  const send = (etag: string | undefined) =>
    update.mutate(
      { app: first.app.id, update: mine, etag },
      {
        onSuccess: () => {
          onClose();
          showToast(`${first.app.id} is changed`, { tone: "good" });
        },
      },
    );
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (Object.keys(mine).length > 0) send(first.etag);
    else onClose();
  };
  return (
    <Dialog open onClose={onClose} title={`Change ${first.app.id}`} description="New scopes are in force on every gateway within a second.">
      <form onSubmit={submit} className="contents">
        <DialogBody>
          <Field label="Name" optional hint="For people.">
            <Input value={name} maxLength={128} autoFocus onChange={(e) => setName(e.target.value)} />
          </Field>
          <ScopesField value={scopes} onChange={setScopes} />
          {changed && (
            <ChangedMeanwhile
              rows={differences(labels, { ...first.app }, { ...changed.now.app }, mine)}
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
