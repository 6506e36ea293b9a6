import { X } from "lucide-react";
import { Dialog as Radix } from "radix-ui";
import { useState, type FormEvent, type ReactNode } from "react";
import type { ApiProblem } from "@/api/problem";
import { Button, IconButton } from "./Button";
import { classes } from "./class";
import { Field, Input } from "./Field";
import { ProblemNotice } from "./ProblemNotice";

/**
 * A modal dialog. Radix's own overlay is left out: it locks scrolling with a style element, which the content security policy
 * refuses; the page behind does not scroll here anyway.
 */
export function Dialog({ open, onClose, title, description, width = "narrow", hideTitle, children }: {
  open: boolean;
  onClose: () => void;
  title: string;
  description?: ReactNode;
  width?: "narrow" | "wide";
  hideTitle?: boolean;
  children: ReactNode;
}) {
  return (
    <Radix.Root open={open} onOpenChange={(next) => !next && onClose()}>
      <Radix.Portal>
        <div className="appear fixed inset-0 z-40 bg-[rgb(15_20_30/0.45)]" />
        <Radix.Content
          data-modal
          tabIndex={-1}
          onOpenAutoFocus={(event) => {
            // A field with autoFocus has the focus already; otherwise the dialog itself takes it, and no button shows its tooltip.
            event.preventDefault();
            const dialog = event.currentTarget as HTMLElement;
            if (!dialog.contains(document.activeElement)) dialog.focus();
          }}
          {...(description ? {} : { "aria-describedby": undefined })}
          className={classes(
            "appear fixed top-[max(16px,12vh)] left-1/2 z-40 flex max-h-[80vh] w-[calc(100vw-32px)] -translate-x-1/2 flex-col",
            "rounded-lg border border-line-strong bg-surface shadow-float focus:outline-none",
            width === "wide" ? "max-w-3xl" : "max-w-md",
          )}
        >
          <header className={classes("flex items-start gap-2 px-5 pt-4 pb-1", hideTitle && "sr-only")}>
            <div className="min-w-0 flex-1">
              <Radix.Title className="text-lg font-semibold">{title}</Radix.Title>
              {description && <Radix.Description className="mt-1 text-soft">{description}</Radix.Description>}
            </div>
            {!hideTitle && <IconButton icon={X} label="Close" className="-mr-2" onClick={onClose} />}
          </header>
          {children}
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}

/** What a dialog holds: it scrolls when it must, by keyboard too where it is there to be read and holds nothing to stop at. */
export const DialogBody = ({ children, reading }: { children: ReactNode; reading?: string }) => (
  <div className="flex min-h-0 flex-col gap-4 overflow-y-auto px-5 py-3" {...(reading ? { tabIndex: 0, role: "group", "aria-label": reading } : {})}>
    {children}
  </div>
);

/** The buttons of a dialog; the deciding one stands last. */
export const DialogActions = ({ children }: { children: ReactNode }) => (
  <footer className="flex flex-wrap justify-end gap-2 px-5 pt-2 pb-4">{children}</footer>
);

/**
 * Asks before something that has no undo. `consequence` says what will be cut. With `typeName` the object's name must be typed:
 * only for what can never be undone.
 */
export function ConfirmDialog({ open, onClose, title, consequence, action, typeName, busy, problem, onConfirm, children }: {
  open: boolean;
  onClose: () => void;
  title: string;
  consequence: ReactNode;
  action: string;
  typeName?: string;
  busy?: boolean;
  problem?: ApiProblem;
  onConfirm: () => void;
  children?: ReactNode;
}) {
  const [typed, setTyped] = useState("");
  const close = () => {
    setTyped("");
    onClose();
  };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (!typeName || typed === typeName) onConfirm();
  };
  return (
    <Dialog open={open} onClose={close} title={title} description={consequence}>
      <form onSubmit={submit} className="contents">
        <DialogBody>
          {children}
          {typeName && (
            <Field label={`Type ${typeName} to confirm`}>
              <Input value={typed} onChange={(e) => setTyped(e.target.value)} className="font-mono" autoFocus />
            </Field>
          )}
          {problem && <ProblemNotice problem={problem} />}
        </DialogBody>
        <DialogActions>
          <Button onClick={close}>Cancel</Button>
          <Button type="submit" kind="danger" busy={busy} disabled={typeName !== undefined && typed !== typeName}>
            {action}
          </Button>
        </DialogActions>
      </form>
    </Dialog>
  );
}
