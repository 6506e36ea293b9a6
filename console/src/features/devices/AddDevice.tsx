import { useQuery } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { Link } from "wouter";
import { asProblem } from "@/api/problem";
import { ProtocolBadge } from "@/components/Badge";
import { Button } from "@/components/Button";
import { CopyableCode, CopyOnce } from "@/components/Copy";
import { Dialog, DialogActions, DialogBody } from "@/components/Dialog";
import { Field, Input } from "@/components/Field";
import { ProblemNotice } from "@/components/ProblemNotice";
import { useTail } from "@/hooks/tail";
import { useHref } from "@/hooks/url";
import { Outcome } from "@/components/Outcome";
import { useAddDevice, useStatus } from "./api";
import { commands, findTrial } from "./tryIt";

const identifier = /^[A-Za-z0-9._:-]{1,128}$/;

/** Registers a device, shows its token once, and how to try it. */
export default function AddDevice({ onClose }: { onClose: () => void }) {
  const add = useAddDevice();
  const [decision, setDecision] = useState(() => crypto.randomUUID());
  const [id, setId] = useState("");
  const [model, setModel] = useState("");
  const [firmware, setFirmware] = useState("");
  const [sent, setSent] = useState(false);
  const wrong = identifier.test(id) ? undefined : "1 to 128 letters, digits, dots, colons, hyphens or underscores.";
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setSent(true);
    if (!wrong) add.mutate({ body: { id, ...(model && { model }), ...(firmware && { firmware }) }, decision });
  };
  // What was refused is another decision once it reads otherwise.
  const changed = (set: (value: string) => void) => (event: { target: { value: string } }) => {
    set(event.target.value);
    if (add.isError) {
      add.reset();
      setDecision(crypto.randomUUID());
    }
  };
  return (
    <Dialog open onClose={onClose} title={add.data ? `${add.data.device.id} is registered` : "Add a device"} width={add.data ? "wide" : "narrow"}>
      {add.data ? (
        <Registered id={add.data.device.id} token={add.data.token} onClose={onClose} />
      ) : (
        <form onSubmit={submit} className="contents" noValidate>
          <DialogBody>
            <Field label="Id" hint="How the device calls itself, such as its serial number. It cannot be changed later." error={sent ? wrong : undefined}>
              <Input value={id} maxLength={128} autoFocus className="font-mono" onChange={changed(setId)} />
            </Field>
            <Field label="Model" optional>
              <Input value={model} maxLength={128} onChange={changed(setModel)} />
            </Field>
            <Field label="Firmware" optional>
              <Input value={firmware} maxLength={128} onChange={changed(setFirmware)} />
            </Field>
            {add.error && <ProblemNotice problem={asProblem(add.error)} />}
          </DialogBody>
          <DialogActions>
            <Button onClick={onClose}>Cancel</Button>
            <Button type="submit" kind="primary" busy={add.isPending}>Add the device</Button>
          </DialogActions>
        </form>
      )}
    </Dialog>
  );
}

function Registered({ id, token, onClose }: { id: string; token: string; onClose: () => void }) {
  const status = useStatus();
  const trial = useQuery({ queryKey: ["apis", "trial"], queryFn: ({ signal }) => findTrial(signal), staleTime: 60_000 });
  const ready = status.data && trial.data !== undefined ? commands(status.data.listeners, trial.data, id, token, window.location.hostname) : [];
  return (
    <>
      <DialogBody>
        <CopyOnce secret={token} what="token" />
        {ready.length > 0 && (
          <section className="flex flex-col gap-3">
            <h3 className="font-semibold">Try it{trial.data && <span className="font-normal text-soft"> with {trial.data.operation.summary ?? trial.data.operation.id}</span>}</h3>
            {ready.map(({ protocol, text }) => (
              <div key={protocol} className="flex flex-col gap-1">
                <ProtocolBadge protocol={protocol} />
                <CopyableCode text={text} label={`Command over ${protocol}`} />
              </div>
            ))}
          </section>
        )}
        <Waiting id={id} />
      </DialogBody>
      <DialogActions>
        <Button kind="primary" onClick={onClose}>Done</Button>
      </DialogActions>
    </>
  );
}

/** Says so when the device's first exchange arrives. */
function Waiting({ id }: { id: string }) {
  const { pages } = useTail(`device:${id}`, `device:${id}`, false, 3);
  const href = useHref();
  const [first] = pages.rows;
  return (
    <p role="status" className="flex flex-wrap items-center gap-2 text-soft">
      {first ? (
        <>
          Its exchange arrived: <Outcome status={first.status} />
          <Link href={href(`/traffic/${encodeURIComponent(first.instance)}`)} className="link">Show it</Link>
        </>
      ) : (
        "Its first exchange shows here."
      )}
    </p>
  );
}
