import { useState, type FormEvent } from "react";
import { asProblem, type ApiProblem } from "@/api/problem";
import type { SchemaTarget, SchemaUpstream } from "@/api/schema.gen";
import { ToneIcon } from "@/components/Badge";
import { Button } from "@/components/Button";
import { CopyableCode } from "@/components/Copy";
import { Dialog, DialogActions, DialogBody } from "@/components/Dialog";
import { Field, Input } from "@/components/Field";
import { ProblemNotice } from "@/components/ProblemNotice";
import { useUndo } from "@/hooks/undo";
import { useRegister, useRemove } from "./api";
import { emptyForm, formOf, readTarget, registerCommand, removeCommand, type TargetForm } from "./register";

/** Registers an address of a service, or changes how one is registered. */
export function RegisterDialog({ upstream, target, onClose }: { upstream: SchemaUpstream; target?: SchemaTarget; onClose: () => void }) {
  const [form, setForm] = useState<TargetForm>(target ? formOf(target) : emptyForm);
  const [sent, setSent] = useState(false);
  const [problem, setProblem] = useState<ApiProblem>();
  const register = useRegister();
  const remove = useRemove();
  const undoable = useUndo();
  const { address, body, wrong } = readTarget(form);
  const said = sent ? wrong : {};
  const field = (name: keyof TargetForm) => ({
    value: form[name],
    onChange: (event: { target: { value: string } }) => {
      setForm({ ...form, [name]: event.target.value });
      setProblem(undefined);
    },
  });
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setSent(true);
    if (Object.keys(wrong).length > 0) return;
    let now: SchemaTarget;
    try {
      now = await register.mutateAsync({ upstream: upstream.name, address, body });
    } catch (error) {
      setProblem(asProblem(error));
      return;
    }
    onClose();
    // One address is written in several ways: the answer has the form that the list has.
    const before = upstream.addresses.find((a) => a.target?.address === now.address)?.target;
    void undoable(async () => {}, `${now.address} is ${before ? "changed" : "registered"}`, () =>
      before ? register.mutateAsync({ upstream: upstream.name, address: before.address, body: bodyOf(before) }) : remove.mutateAsync({ upstream: upstream.name, address: now.address }));
  };
  return (
    <Dialog
      open
      onClose={onClose}
      title={target ? `Change ${target.address}` : `Register an address of ${upstream.name}`}
      description={target ? "Its time to live begins anew." : "Gateways call the service there at once. It goes by itself when it is not registered again in time."}
    >
      <form onSubmit={(event) => void submit(event)} className="contents" noValidate>
        <DialogBody>
          {!upstream.registered && (
            <p className="flex items-start gap-2 rounded border border-line-strong bg-warning-tint px-3 py-2.5">
              <span className="mt-px"><ToneIcon tone="warning" /></span>
              <span>No gateway takes registered addresses for it yet: write <code>discover: {"{registered: true}"}</code> for it in the environment file.</span>
            </p>
          )}
          {!target && (
            <Field label="Address" hint="Where the service listens, such as http://10.0.0.7:9000." error={said.address}>
              <Input {...field("address")} maxLength={300} autoFocus inputMode="url" className="font-mono" />
            </Field>
          )}
          <Field label="Time to live" hint="10s to 24h, such as 30s, 10m or 1h." error={said.ttl}>
            <Input {...field("ttl")} maxLength={16} autoFocus={target !== undefined} className="font-mono" />
          </Field>
          <Field label="Zone" optional hint="Gateways of that zone use it first." error={said.zone}>
            <Input {...field("zone")} maxLength={64} />
          </Field>
          <div className="grid grid-cols-2 gap-4">
            <Field label="Priority" hint="0 to 15; the lowest is used first." error={said.priority}>
              <Input {...field("priority")} maxLength={9} inputMode="numeric" className="tabular" />
            </Field>
            <Field label="Weight" hint="1 to 1,000; its share of the calls." error={said.weight}>
              <Input {...field("weight")} maxLength={9} inputMode="numeric" className="tabular" />
            </Field>
          </div>
          <ByCommand text={registerCommand(upstream.name, form)} />
          {problem && <ProblemNotice problem={problem} />}
        </DialogBody>
        <DialogActions>
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind="primary" busy={register.isPending}>{target ? "Change" : "Register"}</Button>
        </DialogActions>
      </form>
    </Dialog>
  );
}

/** Takes a registered address out; whoever did so by mistake puts it back as it was. */
export function RemoveDialog({ upstream, target, onClose }: { upstream: SchemaUpstream; target: SchemaTarget; onClose: () => void }) {
  const [problem, setProblem] = useState<ApiProblem>();
  const register = useRegister();
  const remove = useRemove();
  const undoable = useUndo();
  const only = upstream.addresses.length === 1 && !upstream.notShown;
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    try {
      await remove.mutateAsync({ upstream: upstream.name, address: target.address });
    } catch (error) {
      setProblem(asProblem(error));
      return;
    }
    onClose();
    void undoable(async () => {}, `${target.address} is out of ${upstream.name}`, () => register.mutateAsync({ upstream: upstream.name, address: target.address, body: bodyOf(target) }));
  };
  return (
    <Dialog open onClose={onClose} title={`Remove ${target.address}`} description="It gets no further call; calls under way end undisturbed. A service that renews it puts it back.">
      <form onSubmit={(event) => void submit(event)} className="contents">
        <DialogBody>
          {only && (
            <p className="flex items-start gap-2 font-medium">
              <span className="mt-px"><ToneIcon tone="warning" /></span>
              It is the only address of {upstream.name}: without it no call can be carried out.
            </p>
          )}
          <ByCommand text={removeCommand(upstream.name, target.address)} />
          {problem && <ProblemNotice problem={problem} />}
        </DialogBody>
        <DialogActions>
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind="primary" busy={remove.isPending}>Remove</Button>
        </DialogActions>
      </form>
    </Dialog>
  );
}

const bodyOf = ({ zone, priority, weight, ttlSeconds }: SchemaTarget) => ({ ...(zone && { zone }), priority, weight, ttlSeconds });

function ByCommand({ text }: { text: string }) {
  return (
    <div className="flex flex-col gap-1">
      <p className="text-xs text-quiet">By command it is the same:</p>
      <CopyableCode label="Command that does the same" text={text} />
    </div>
  );
}
