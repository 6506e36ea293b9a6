// What can be done now. A command has one label, one key and one effect, whether it is chosen in the palette, by a button or by
// its key. Pages register theirs while they are shown.
import type { LucideIcon } from "lucide-react";
import { useEffect, useRef, useSyncExternalStore } from "react";
import { useHotkeys } from "./hotkeys";

export interface Command {
  id: string;
  label: string;
  group: "Go to" | "Do" | "View";
  icon?: LucideIcon;
  keys?: string;
  /** Further words by which the palette finds it. */
  words?: string;
  /** Why it cannot be done now; it is shown and refused. */
  refused?: string;
  run: () => void;
}

let registered: readonly (readonly Command[])[] = [];
const listeners = new Set<() => void>();

function change(next: typeof registered) {
  registered = next;
  listeners.forEach((listener) => listener());
}

/** Registers commands, and their keys, while the component is mounted. */
export function useCommands(commands: readonly Command[]) {
  const latest = useRef(commands);
  const signature = commands.map((c) => `${c.id}\n${c.label}\n${c.refused ?? ""}`).join("\n\n");
  useEffect(() => {
    latest.current = commands;
  });
  useEffect(() => {
    const mine = latest.current.map((c) => ({ ...c, run: () => latest.current.find((l) => l.id === c.id)?.run() }));
    change([mine, ...registered]);
    return () => change(registered.filter((r) => r !== mine));
  }, [signature]);
  useHotkeys(
    commands.flatMap((c) => (c.keys && !c.refused ? [{ keys: c.keys, label: c.label, run: () => c.run() }] : [])),
  );
}

/** Every command, those of the page first. */
export function useAllCommands(): readonly Command[] {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    () => registered,
  ).flat();
}
