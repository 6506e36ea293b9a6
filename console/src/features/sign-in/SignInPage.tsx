import { useEffect, useRef, useState, type FormEvent } from "react";
import { ApiProblem, asProblem } from "@/api/problem";
import { Button } from "@/components/Button";
import { Field, Input } from "@/components/Field";
import { ProblemNotice } from "@/components/ProblemNotice";
import { useSetup, useSignIn } from "@/session/session";
import { Doorway } from "./Doorway";

/** Signs in by link, by one-time token, or by name and password. An unclaimed installation has only the token. */
export default function SignInPage({ link, onLinkUsed }: { link: string; onLinkUsed: () => void }) {
  const setup = useSetup();
  const signIn = useSignIn();
  const [byToken, setByToken] = useState(false);
  const [token, setToken] = useState("");
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const taken = useRef(false);
  const wantsToken = byToken || setup.data?.claimed === false;

  const { mutate } = signIn;
  useEffect(() => {
    if (!link || taken.current) return;
    taken.current = true; // a one-time token is sent once
    mutate({ token: link }, { onSettled: onLinkUsed });
  }, [link, mutate, onLinkUsed]);

  if (link) return <Doorway title="Signing in" />;
  const submit = (event: FormEvent) => {
    event.preventDefault();
    signIn.mutate(wantsToken ? { token: token.trim() } : { name: name.trim(), password });
  };
  return (
    <Doorway title="Sign in">
      <form onSubmit={submit} className="flex flex-col gap-4">
        {wantsToken ? (
          <Field
            label="One-time token"
            hint={
              setup.data?.claimed === false ? (
                <>
                  Nobody owns this installation yet.
                  {setup.data.tokenFile && (
                    <>
                      {" "}
                      The token is in <code className="break-all text-soft">{setup.data.tokenFile}</code>
                    </>
                  )}
                </>
              ) : (
                "From an invitation or from the node's terminal. It works once."
              )
            }
          >
            <Input value={token} onChange={(e) => setToken(e.target.value)} type="password" className="font-mono" autoFocus required />
          </Field>
        ) : (
          <>
            <Field label="Name">
              <Input value={name} onChange={(e) => setName(e.target.value)} autoComplete="username" autoCapitalize="none" autoFocus required />
            </Field>
            <Field label="Password">
              <Input value={password} onChange={(e) => setPassword(e.target.value)} type="password" autoComplete="current-password" required />
            </Field>
          </>
        )}
        {signIn.error ? (
          <ProblemNotice problem={explain(asProblem(signIn.error), signIn.variables.token !== undefined)} />
        ) : (
          setup.error && <ProblemNotice problem={asProblem(setup.error)} onRetry={() => void setup.refetch()} />
        )}
        <Button type="submit" kind="primary" busy={signIn.isPending} className="w-full">
          Sign in
        </Button>
        {setup.data?.claimed !== false && (
          <button
            type="button"
            className="link self-center"
            onClick={() => {
              setByToken(!byToken);
              signIn.reset();
            }}
          >
            {byToken ? "Use name and password" : "Use a one-time token"}
          </button>
        )}
      </form>
    </Doorway>
  );
}

/** What to do when nobody is let in. The node does not say what was wrong, so neither does this. */
function explain(problem: ApiProblem, byToken: boolean): ApiProblem {
  if (problem.status !== 401) return problem;
  const [title, detail] = byToken
    ? ["The link or token is not valid", "It works once, and for a limited time. Make a new one with \u201cfieldgate sign-in\u201d on the node, or ask an owner for one."]
    : ["Name and password do not fit", "Check both. Who forgot their password gets a link from an owner, or with \u201cfieldgate sign-in --for NAME\u201d on the node."];
  return new ApiProblem({ ...problem.problem, title, detail });
}
