import { useCallback } from "react";
import { useLocation } from "wouter";
import { useHotkeys } from "./hotkeys";
import { useHref, useUrlParam } from "./url";

/** The detail drawer of a list: which row is open is in the URL; j and k walk the list, Esc closes, Enter opens the full page. */
export function useDrawer(keys: readonly string[], pageOf?: (key: string) => string) {
  const [open, setOpen] = useUrlParam("open");
  const [, navigate] = useLocation();
  const href = useHref();
  const step = useCallback(
    (by: number) => {
      const at = keys.indexOf(open);
      const next = keys[at < 0 ? (by > 0 ? 0 : keys.length - 1) : Math.min(Math.max(at + by, 0), keys.length - 1)];
      // A button that a mouse has left the focus on would take the Enter that opens the page.
      if (document.activeElement instanceof HTMLButtonElement) document.activeElement.blur();
      if (next !== undefined) setOpen(next, { replace: open !== "" });
    },
    [keys, open, setOpen],
  );
  const close = useCallback(() => setOpen(""), [setOpen]);
  useHotkeys([
    { keys: "j", label: "Next in the list", run: () => step(1) },
    { keys: "k", label: "Previous in the list", run: () => step(-1) },
    ...(open ? [{ keys: "Escape", label: "Close the drawer", run: close }] : []),
    ...(open && pageOf ? [{ keys: "Enter", label: "Open the full page", run: () => navigate(href(pageOf(open))) }] : []),
  ]);
  return { open, setOpen, close, next: () => step(1), previous: () => step(-1) };
}
