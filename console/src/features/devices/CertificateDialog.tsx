import { useRef, useState, type FormEvent } from "react";
import { asProblem } from "@/api/problem";
import { Button } from "@/components/Button";
import { Dialog, DialogActions, DialogBody } from "@/components/Dialog";
import { Field, Textarea } from "@/components/Field";
import { ProblemNotice } from "@/components/ProblemNotice";
import { showToast } from "@/components/toasts";
import { useAddCertificate } from "./api";
import { firstCertificate } from "./certificate";

/** Registers a certificate, pasted or of a file. */
export function CertificateDialog({ device, onClose }: { device: string; onClose: () => void }) {
  const add = useAddCertificate();
  const input = useRef<HTMLInputElement>(null);
  const [text, setText] = useState("");
  const [sent, setSent] = useState(false);
  const certificate = firstCertificate(text);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setSent(true);
    if (!certificate) return;
    add.mutate({ device, certificate }, {
      onSuccess: () => {
        onClose();
        showToast(`A certificate of ${device} is registered`, { tone: "good" });
      },
    });
  };
  return (
    <Dialog
      open
      onClose={onClose}
      title={`Register a certificate for ${device}`}
      description="Whoever shows it in a TLS or DTLS handshake, and has its private key, is this device. It may be of any authority, or of the device's own making."
    >
      <form onSubmit={submit} className="contents" noValidate>
        <DialogBody>
          <Field label="Certificate" hint="In PEM form. Of a file with more, the first certificate is taken, and no key leaves this page."
            error={sent && !certificate ? "There is no certificate in it: it begins with -----BEGIN CERTIFICATE-----." : undefined}>
            <Textarea value={text} autoFocus spellCheck={false} className="h-40 font-mono text-xs" onChange={(e) => setText(e.target.value)} />
          </Field>
          <div>
            <Button onClick={() => input.current?.click()}>Choose a file</Button>
            <input ref={input} type="file" className="hidden" aria-label="PEM file" accept=".pem,.crt,.cer"
              onChange={(e) => void e.target.files?.[0]?.slice(0, 1 << 20).text().then((content) => setText(firstCertificate(content) ?? content))} />
          </div>
          {add.error && <ProblemNotice problem={asProblem(add.error)} />}
        </DialogBody>
        <DialogActions>
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind="primary" busy={add.isPending}>Register the certificate</Button>
        </DialogActions>
      </form>
    </Dialog>
  );
}
