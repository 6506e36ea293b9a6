import { useState, type FormEvent } from "react";
import { asProblem } from "@/api/problem";
import { Button } from "@/components/Button";
import { Dialog, DialogActions, DialogBody } from "@/components/Dialog";
import { Field, Input } from "@/components/Field";
import { ProblemNotice } from "@/components/ProblemNotice";
import { showToast } from "@/components/toasts";
import { checkPassword, passwordHint } from "@/session/password";
import { useClaim } from "@/session/session";

/** Makes the first owner of the installation. */
export default function ClaimDialog({ onClose }: { onClose: () => void }) {
  const claim = useClaim();
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [again, setAgain] = useState("");
  const [tried, setTried] = useState(false);
  const wrong = checkPassword(password, again);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (wrong) return;
    claim.mutate(
      { name, password },
      {
        onSuccess: () => {
          showToast(`This installation is ${name}'s now.`, { tone: "good" });
          onClose();
        },
      },
    );
  };
  return (
    <Dialog open onClose={onClose} title="Create your account" description="You become the owner of this installation. One-time tokens of the first sign-in stop working.">
      <form onSubmit={submit} className="contents">
        <DialogBody>
          <Field label="Name" hint="Small letters, digits, dots and dashes. It stands in the audit log.">
            <Input value={name} onChange={(e) => setName(e.target.value.toLowerCase())} autoComplete="username" pattern="[a-z0-9][a-z0-9._\-]*" maxLength={64} autoFocus required />
          </Field>
          <Field label="Password" hint={passwordHint} error={tried ? wrong?.password : undefined}>
            <Input value={password} onChange={(e) => setPassword(e.target.value)} type="password" autoComplete="new-password" required />
          </Field>
          <Field label="Password again" error={tried ? wrong?.again : undefined}>
            <Input value={again} onChange={(e) => setAgain(e.target.value)} type="password" autoComplete="new-password" required />
          </Field>
          {claim.error && <ProblemNotice problem={asProblem(claim.error)} />}
        </DialogBody>
        <DialogActions>
          <Button onClick={onClose}>Later</Button>
          <Button type="submit" kind="primary" busy={claim.isPending}>
            Create the account
          </Button>
        </DialogActions>
      </form>
    </Dialog>
  );
}
