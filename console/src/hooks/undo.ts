import { useCallback } from "react";
import { asProblem } from "@/api/problem";
import { showToast } from "@/components/toasts";

/** Does something at once and offers to take it back: `undoable(quarantine, "pump-17 is quarantined", release)`. */
export function useUndo() {
  return useCallback(async (act: () => Promise<unknown>, done: string, undo?: () => Promise<unknown>) => {
    if (!(await attempt(act))) return false;
    showToast(done, { tone: "good", action: undo && { label: "Undo", run: () => void attempt(undo) } });
    return true;
  }, []);
}

async function attempt(act: () => Promise<unknown>): Promise<boolean> {
  try {
    await act();
    return true;
  } catch (error) {
    showToast(asProblem(error).message, { tone: "bad" });
    return false;
  }
}
