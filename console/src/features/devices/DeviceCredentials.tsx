import { FileKey, KeyRound, Trash2 } from "lucide-react";
import { useState, type ReactNode } from "react";
import { asProblem } from "@/api/problem";
import type { SchemaDevice, SchemaDeviceCertificate } from "@/api/schema.gen";
import { ToneIcon } from "@/components/Badge";
import { Button, IconButton } from "@/components/Button";
import { ConfirmDialog } from "@/components/Dialog";
import { showToast } from "@/components/toasts";
import { Expiry } from "@/components/values";
import { useClock } from "@/hooks/clock";
import { plural } from "@/lib/format";
import { useMay } from "@/session/session";
import { useRemoveCertificate, useRemovePsk } from "./api";
import { CertificateDialog } from "./CertificateDialog";
import { PskDialog } from "./PskDialog";

type Open = "psk" | "remove-psk" | "certificate" | SchemaDeviceCertificate;

/** What a device can show who it is by: tokens, a pre-shared key, certificates. Never the secrets themselves. */
export function DeviceCredentials({ device }: { device: SchemaDevice }) {
  const [open, setOpen] = useState<Open>();
  const may = useMay("devices.write") && device.state !== "revoked";
  const certificates = device.certificates ?? [];
  const close = () => setOpen(undefined);
  return (
    <div className="flex flex-col gap-3">
      <Credential name="Tokens" note="For HTTP, MQTT and CoAP; only hashes are kept.">
        {device.tokens === 0 ? "None is valid" : plural(device.tokens, "valid token")}
      </Credential>
      <Credential
        name="Pre-shared key"
        note={device.pskIdentity ? "For CoAP over DTLS; the key is kept sealed." : "For CoAP over DTLS."}
        actions={may && (
          <>
            <Button icon={KeyRound} onClick={() => setOpen("psk")}>{device.pskIdentity ? "Replace" : "Set a key"}</Button>
            {device.pskIdentity && <IconButton icon={Trash2} label="Remove the pre-shared key" onClick={() => setOpen("remove-psk")} />}
          </>
        )}
      >
        {device.pskIdentity ? <>Identity <code className="break-all">{device.pskIdentity}</code></> : "None"}
      </Credential>
      <Credential
        name="Certificates"
        note="Registered for this device; those of device authorities need not be."
        actions={may && <Button icon={FileKey} onClick={() => setOpen("certificate")}>Register one</Button>}
      >
        {certificates.length === 0 && "None"}
      </Credential>
      {certificates.map((certificate) => (
        <Certificate key={certificate.fingerprint} certificate={certificate} onRemove={may ? () => setOpen(certificate) : undefined} />
      ))}
      {open === "psk" && <PskDialog device={device} onClose={close} />}
      {open === "remove-psk" && <RemovePskDialog device={device} onClose={close} />}
      {open === "certificate" && <CertificateDialog device={device.id} onClose={close} />}
      {typeof open === "object" && <RemoveCertificateDialog device={device.id} certificate={open} onClose={close} />}
    </div>
  );
}

function Credential({ name, note, actions, children }: { name: string; note: string; actions?: ReactNode; children: ReactNode }) {
  return (
    <div className="flex flex-wrap items-start gap-x-3 gap-y-1.5">
      <div className="min-w-0 flex-[1_1_180px]">
        <h3 className="font-medium">{name}</h3>
        {children && <p className="min-w-0 break-words">{children}</p>}
        <p className="text-xs text-quiet">{note}</p>
      </div>
      {actions && <div className="flex gap-1">{actions}</div>}
    </div>
  );
}

function Certificate({ certificate: { fingerprint, subject, notBefore, notAfter }, onRemove }: { certificate: SchemaDeviceCertificate; onRemove?: () => void }) {
  const early = useClock((now) => now < Date.parse(notBefore));
  const late = useClock((now) => now >= Date.parse(notAfter));
  const soon = useClock((now) => now > Date.parse(notAfter) - 30 * 86_400_000);
  return (
    <div className="flex items-start gap-2 rounded border border-line bg-sunken py-2 pr-1 pl-3">
      <div className="flex min-w-0 flex-1 flex-col gap-0.5">
        <p className="break-words">{subject || "No subject"}</p>
        <p className="flex items-center gap-1.5">
          {(early || soon) && <ToneIcon tone={late ? "bad" : "warning"} />}
          {early && "Not valid yet;"} <Expiry time={notAfter} />
        </p>
        <code className="text-xs break-all text-soft" title="SHA-256 fingerprint">{fingerprint}</code>
      </div>
      {onRemove && <IconButton icon={Trash2} label="Remove the certificate" onClick={onRemove} />}
    </div>
  );
}

function RemovePskDialog({ device, onClose }: { device: SchemaDevice; onClose: () => void }) {
  const remove = useRemovePsk();
  return (
    <ConfirmDialog
      open
      onClose={onClose}
      title={`Remove the pre-shared key of ${device.id}`}
      consequence="DTLS sessions that were made by it end within a second. The key cannot be shown or restored; another one can be set."
      action="Remove the key"
      busy={remove.isPending}
      problem={remove.error ? asProblem(remove.error) : undefined}
      onConfirm={() =>
        remove.mutate(device.id, {
          onSuccess: () => {
            onClose();
            showToast(`The pre-shared key of ${device.id} is removed`, { tone: "good" });
          },
        })
      }
    />
  );
}

function RemoveCertificateDialog({ device, certificate, onClose }: { device: string; certificate: SchemaDeviceCertificate; onClose: () => void }) {
  const remove = useRemoveCertificate();
  return (
    <ConfirmDialog
      open
      onClose={onClose}
      title={`Remove a certificate of ${device}`}
      consequence="Connections that were made with it end within a second, and whoever shows it from then on is refused."
      action="Remove the certificate"
      busy={remove.isPending}
      problem={remove.error ? asProblem(remove.error) : undefined}
      onConfirm={() =>
        remove.mutate({ device, fingerprint: certificate.fingerprint }, {
          onSuccess: () => {
            onClose();
            showToast(`A certificate of ${device} is removed`, { tone: "good" });
          },
        })
      }
    >
      <p className="break-words">
        {certificate.subject}
        <code className="mt-1 block text-xs break-all text-soft">{certificate.fingerprint}</code>
      </p>
    </ConfirmDialog>
  );
}
