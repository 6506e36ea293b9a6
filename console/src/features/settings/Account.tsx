import { useState, type FormEvent } from "react";
import { asProblem } from "@/api/problem";
import { Button } from "@/components/Button";
import { Facts } from "@/components/Facts";
import { Field, Input } from "@/components/Field";
import { Section } from "@/components/Page";
import { ProblemNotice } from "@/components/ProblemNotice";
import { showToast } from "@/components/toasts";
import { RelativeTime } from "@/components/values";
import { setTheme, themes, useTheme } from "@/hooks/theme";
import { checkPassword, passwordHint } from "@/session/password";
import { useSession, useSetPassword } from "@/session/session";
import { Scopes } from "./Operators";
import { roles } from "./roles";

const themeWords = { system: "Like the system", light: "Light", dark: "Dark" } as const;

/** Who one is, one's password and how the console looks. */
export function Account() {
  const session = useSession();
  const theme = useTheme();
  return (
    <div className="grid max-w-5xl items-start gap-4 lg:grid-cols-2">
      <div className="flex flex-col gap-4">
        <Section title="You">
          <Facts
            facts={[
              ["Name", <span className="font-medium">{session.name}</span>],
              ["Role", <>{session.role}: {roles.find((r) => r.role === session.role)?.may}</>],
              ["Scopes", <Scopes scopes={session.scopes} />],
              ["Session ends", session.expiresAt && <RelativeTime time={session.expiresAt} />],
            ]}
          />
        </Section>
        <Section title="Theme">
          <fieldset className="flex flex-wrap gap-x-5 gap-y-2">
            <legend className="sr-only">Theme</legend>
            {themes.map((t) => (
              <label key={t} className="flex min-h-6 items-center gap-2">
                <input type="radio" name="theme" checked={theme === t} onChange={() => setTheme(t)} />
                {themeWords[t]}
              </label>
            ))}
          </fieldset>
          <p className="mt-2 text-xs text-quiet">It is kept in this browser.</p>
        </Section>
      </div>
      <Section title="Password">{session.kind === "operator" ? <PasswordForm name={session.name} /> : <p className="text-soft">You are signed in without an account of your own. Make yourself the owner first.</p>}</Section>
    </div>
  );
}

function PasswordForm({ name }: { name: string }) {
  const setPassword = useSetPassword();
  const [current, setCurrent] = useState("");
  const [password, setNext] = useState("");
  const [again, setAgain] = useState("");
  const [tried, setTried] = useState(false);
  const wrong = checkPassword(password, again);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (wrong || current === "") return;
    setPassword.mutate({ current, password }, {
      onSuccess: () => {
        for (const clear of [setCurrent, setNext, setAgain]) clear("");
        setTried(false);
        showToast("Your password is changed; your other sessions are over", { tone: "good" });
      },
    });
  };
  return (
    <form onSubmit={submit} className="flex flex-col gap-4">
      <input type="text" name="username" value={name} autoComplete="username" readOnly hidden />
      <Field label="Present password" error={tried && current === "" ? "It is needed." : undefined}>
        <Input type="password" autoComplete="current-password" value={current} onChange={(e) => setCurrent(e.target.value)} />
      </Field>
      <Field label="New password" hint={passwordHint} error={tried ? wrong?.password : undefined}>
        <Input type="password" autoComplete="new-password" value={password} onChange={(e) => setNext(e.target.value)} />
      </Field>
      <Field label="New password again" error={tried ? wrong?.again : undefined}>
        <Input type="password" autoComplete="new-password" value={again} onChange={(e) => setAgain(e.target.value)} />
      </Field>
      {setPassword.error && <ProblemNotice problem={asProblem(setPassword.error)} />}
      <Button type="submit" kind="primary" busy={setPassword.isPending} className="self-start">Change the password</Button>
    </form>
  );
}
