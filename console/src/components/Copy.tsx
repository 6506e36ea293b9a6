import { Check, Copy as CopyIcon } from "lucide-react";
import { useEffect, useState } from "react";
import { Button, IconButton } from "./Button";
import { ToneIcon } from "./Badge";
import { showToast } from "./toasts";

/** Copies a text, and says for a moment that it did. */
export function useCopy(text: string): { copied: boolean; copy: () => void } {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 1600);
    return () => clearTimeout(timer);
  }, [copied]);
  return {
    copied,
    copy: () =>
      void navigator.clipboard.writeText(text).then(
        () => setCopied(true),
        () => showToast("The browser did not allow copying. Select the text and copy it by hand.", { tone: "bad" }),
      ),
  };
}

/** A command, or other text to take along. */
export function CopyableCode({ text, label }: { text: string; label: string }) {
  const { copied, copy } = useCopy(text);
  return (
    <div className="flex w-full min-w-0 items-start rounded border border-line bg-sunken">
      <pre tabIndex={0} aria-label={label} className="min-w-0 flex-1 overflow-x-auto px-3 py-2 leading-5 whitespace-pre-wrap break-all focus-visible:outline-offset-[-2px]">
        {text}
      </pre>
      <IconButton icon={copied ? Check : CopyIcon} label={copied ? "Copied" : "Copy"} className="m-0.5" onClick={copy} />
    </div>
  );
}

/** A secret that is shown now and never again. */
export function CopyOnce({ secret, what }: { secret: string; what: string }) {
  const { copied, copy } = useCopy(secret);
  return (
    <div className="flex flex-col gap-2 rounded border border-line-strong bg-warning-tint px-3 py-2.5">
      <p className="flex items-center gap-2 font-medium">
        <ToneIcon tone="warning" />
        Copy the {what} now: it is shown only this once.
      </p>
      <div className="flex flex-wrap items-center gap-2">
        <code className="min-w-0 flex-1 rounded border border-line bg-surface px-2 py-1.5 break-all select-all">{secret}</code>
        <Button kind="primary" icon={copied ? Check : CopyIcon} onClick={copy}>
          {copied ? "Copied" : "Copy"}
        </Button>
      </div>
    </div>
  );
}
