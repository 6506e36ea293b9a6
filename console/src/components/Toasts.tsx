import { X } from "lucide-react";
import { useEffect, useState, useSyncExternalStore } from "react";
import { ToneIcon } from "./Badge";
import { IconButton } from "./Button";
import { closeToast, toastStore, type Toast } from "./toasts";

const lifetime = 15_000; // ms; it stands still while the reader is on it

export function Toasts() {
  const toasts = useSyncExternalStore(toastStore.subscribe, toastStore.get);
  return (
    <section
      aria-label="Messages"
      aria-live="polite"
      className="pointer-events-none fixed right-4 bottom-16 z-50 flex w-[min(400px,calc(100vw-32px))] flex-col gap-2 sm:bottom-4"
    >
      {toasts.map((toast) => (
        <ToastCard key={toast.id} toast={toast} />
      ))}
    </section>
  );
}

function ToastCard({ toast }: { toast: Toast }) {
  const [held, setHeld] = useState(false);
  useEffect(() => {
    if (held) return;
    const timer = setTimeout(() => closeToast(toast.id), lifetime);
    return () => clearTimeout(timer);
  }, [held, toast.id]);
  return (
    <div
      className="appear pointer-events-auto flex items-center gap-2 rounded border border-line-strong bg-surface py-1.5 pr-1.5 pl-3 shadow-float"
      onPointerEnter={() => setHeld(true)}
      onPointerLeave={() => setHeld(false)}
      onFocus={() => setHeld(true)}
      onBlur={() => setHeld(false)}
    >
      {toast.tone !== "neutral" && <ToneIcon tone={toast.tone} />}
      <p className="min-w-0 flex-1">{toast.text}</p>
      {toast.action && (
        <button
          type="button"
          className="h-8 rounded px-2 font-medium text-accent hover:bg-hover"
          onClick={() => {
            closeToast(toast.id);
            toast.action?.run();
          }}
        >
          {toast.action.label}
        </button>
      )}
      <IconButton icon={X} label="Close" onClick={() => closeToast(toast.id)} />
    </div>
  );
}
