// Keys of the whole console: one listener; what was registered last is asked first, so that an open drawer has Escape before
// the page below it. While one writes, or a dialog is open, only what belongs there hears the keyboard.
import { useEffect, useRef } from "react";

export interface Hotkey {
  /** One key (`j`, `/`, `Escape`, `mod+k`) or two in turn (`g n`). `mod` is ⌘ on a Mac and Ctrl elsewhere. */
  keys: string;
  /** What it does, in the list that `?` shows. */
  label: string;
  run: (event: KeyboardEvent) => void;
}

const layers: { current: readonly Hotkey[] }[] = [];
let pending = "";
let pendingAt = 0;

const isMac = typeof navigator !== "undefined" && /Mac|iP(hone|ad)/.test(navigator.userAgent);

/** The key as it is written on the reader's keyboard. */
export function showKeys(keys: string): string {
  return keys.replace("mod+", isMac ? "⌘" : "Ctrl ").replace(/\bk$/, (k) => (keys.startsWith("mod+") ? k.toUpperCase() : k)).replace("Escape", "Esc");
}

/** Every key that works now, the topmost first. */
export function activeHotkeys(): Hotkey[] {
  return [...layers].reverse().flatMap((layer) => layer.current);
}

function press(event: KeyboardEvent) {
  if (event.defaultPrevented || event.isComposing || event.altKey) return;
  const mod = isMac ? event.metaKey : event.ctrlKey;
  if (!mod && (event.metaKey || event.ctrlKey)) return;
  const target = event.target as HTMLElement;
  const writing = target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName);
  if (event.key === "Enter" && target.closest("a, button")) return; // it is theirs
  if ((writing && !mod) || document.querySelector("[data-modal]")) return;

  const key = (mod ? "mod+" : "") + (event.key.length === 1 ? event.key.toLowerCase() : event.key);
  const sequence = pending && event.timeStamp - pendingAt < 1200 ? `${pending} ${key}` : "";
  pending = "";
  const all = activeHotkeys();
  const hit = all.find((h) => h.keys === sequence) ?? all.find((h) => h.keys === key);
  if (hit) {
    event.preventDefault();
    hit.run(event);
  } else if (all.some((h) => h.keys.startsWith(`${key} `))) {
    pending = key;
    pendingAt = event.timeStamp;
  }
}

/** Registers keys while the component is mounted. */
export function useHotkeys(hotkeys: readonly Hotkey[]) {
  const layer = useRef(hotkeys);
  useEffect(() => {
    layer.current = hotkeys;
  });
  useEffect(() => {
    if (layers.length === 0) window.addEventListener("keydown", press);
    layers.push(layer);
    return () => {
      layers.splice(layers.indexOf(layer), 1);
      if (layers.length === 0) window.removeEventListener("keydown", press);
    };
  }, []);
}
