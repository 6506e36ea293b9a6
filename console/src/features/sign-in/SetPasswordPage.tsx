import { useState, type FormEvent } from "react";
import { asProblem } from "@/api/problem";
import { Button } from "@/components/Button";
import { Field, Input } from "@/components/Field";
import { ProblemNotice } from "@/components/ProblemNotice";
import { checkPassword, passwordHint } from "@/session/password";
import { useSession, useSetPassword } from "@/session/session";
import { Doorway } from "./Doorway";

/** After an invitation: the new operator chooses a password, and is in. */
export default function SetPasswordPage() {
  const session = useSession();
  const setPassword = useSetPassword();
  const [password, setFirst] = useState("");
  const [again, setAgain] = useState("");
  const [tried, setTried] = useState(false);
  const wrong = checkPassword(password, again);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (!wrong) setPassword.mutate({ password });
  };
  return (
    <Doorway title={`Welcome, ${session.name}`}>
      <form onSubmit={submit} className="flex flex-col gap-4">
        <input type="text" name="username" value={session.name} autoComplete="username" readOnly hidden />
        <Field label="Choose a password" hint={passwordHint} error={tried ? wrong?.password : undefined}>
          <Input value={password} onChange={(e) => setFirst(e.target.value)} type="password" autoComplete="new-password" autoFocus required />
        </Field>
        <Field label="Password again" error={tried ? wrong?.again : undefined}>
          <Input value={again} onChange={(e) => setAgain(e.target.value)} type="password" autoComplete="new-password" required />
        </Field>
        {setPassword.error && <ProblemNotice problem={asProblem(setPassword.error)} />}
        <Button type="submit" kind="primary" busy={setPassword.isPending}>
          Set the password and go on
        </Button>
      </form>
    </Doorway>
  );
}
