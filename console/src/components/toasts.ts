// Short messages about what was just done, some with an undo.
export interface Toast {
  id: number;
  text: string;
  tone: "neutral" | "good" | "bad";
  action?: { label: string; run: () => void };
}

let toasts: readonly Toast[] = [];
let nextId = 1;
const listeners = new Set<() => void>();
const most = 3;

function change(next: readonly Toast[]) {
  toasts = next;
  listeners.forEach((listener) => listener());
}

export const toastStore = {
  subscribe(listener: () => void) {
    listeners.add(listener);
    return () => void listeners.delete(listener);
  },
  get: () => toasts,
};

export function showToast(text: string, options: Partial<Omit<Toast, "id" | "text">> = {}): number {
  const id = nextId++;
  change([...toasts, { id, text, tone: "neutral", ...options } satisfies Toast].slice(-most));
  return id;
}

export const closeToast = (id: number) => change(toasts.filter((toast) => toast.id !== id));
