import { useState } from "react";
import type { ApiProblem } from "@/api/problem";
import { Button } from "./Button";
import { CopyOnce } from "./Copy";
import { Dialog, DialogActions, DialogBody } from "./Dialog";
import { ProblemNotice } from "./ProblemNotice";

/** Issues a new token or key, and shows it once. */
export function SecretDialog({ what, of, valid, secret, busy, problem, onIssue, onClose }: {
  what: "token" | "key";
  of: string;
  /** How many are valid now. */
  valid: number;
  /** Once it was issued. */
  secret: string | undefined;
  busy: boolean;
  problem: ApiProblem | undefined;
  onIssue: (keep: boolean) => void;
  onClose: () => void;
}) {
  const [keep, setKeep] = useState(false);
  const older = valid === 1 ? `the present ${what}` : `the ${valid} present ${what}s`;
  const full = valid >= 4;
  return (
    <Dialog open onClose={onClose} title={secret ? `New ${what} of ${of}` : `Issue a new ${what} for ${of}`}
      description={secret ? undefined : `It is shown once; only its hash is kept.`}>
      <DialogBody>
        {secret ? (
          <CopyOnce secret={secret} what={what} />
        ) : valid === 0 ? (
          <p>There is no valid {what} now.</p>
        ) : (
          <fieldset className="flex flex-col gap-2">
            <legend className="mb-1.5 font-medium">What becomes of {older}?</legend>
            <label className="flex gap-2">
              <input type="radio" name="keep" checked={!keep} onChange={() => setKeep(false)} className="mt-0.5" />
              <span>
                {valid === 1 ? "It stops" : "They stop"} working at once
                <span className="block text-quiet">Whoever uses {valid === 1 ? "it" : "them"} is cut off until it has the new one.</span>
              </span>
            </label>
            <label className="flex gap-2">
              <input type="radio" name="keep" checked={keep} disabled={full} onChange={() => setKeep(true)} className="mt-0.5" />
              <span>
                {valid === 1 ? "It stays" : "They stay"} valid
                <span className="block text-quiet">
                  {full ? `There are ${valid} already, and four is the most.` : "Move over first, then issue another without keeping the older ones. Four can be valid at once."}
                </span>
              </span>
            </label>
          </fieldset>
        )}
        {problem && <ProblemNotice problem={problem} />}
      </DialogBody>
      <DialogActions>
        {secret ? (
          <Button kind="primary" onClick={onClose}>Done</Button>
        ) : (
          <>
            <Button onClick={onClose}>Cancel</Button>
            <Button kind="primary" busy={busy} onClick={() => onIssue(keep)}>Issue the {what}</Button>
          </>
        )}
      </DialogActions>
    </Dialog>
  );
}
