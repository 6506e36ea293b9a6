// What publishing a document would do, in words.
import type { SchemaApiDetail, SchemaOperationChange, SchemaOperationTraffic, SchemaPlan } from "@/api/schema.gen";
import { plural } from "@/lib/format";

export type Change = SchemaOperationChange["change"];

/** Removed operations first: they are what cuts somebody off. */
export const changeOrder: readonly Change[] = ["removed", "changed", "added", "unchanged"];

export function countChanges(plan: SchemaPlan): Record<Change, number> {
  const counts: Record<Change, number> = { removed: 0, changed: 0, added: 0, unchanged: 0 };
  for (const { change } of plan.operations) counts[change]++;
  return counts;
}

/** "Version 2.5.0 of thermo takes the place of 2.4.0: 1 operation removed, 1 added, 2 unchanged." */
export function planSentence(plan: SchemaPlan): string {
  const { api, version, change, supersedes = [] } = plan;
  const counts = countChanges(plan);
  if (change === "none") return `Exactly this is published already as ${api} ${version}; publishing it changes nothing.`;
  const what = changeOrder
    .filter((c) => counts[c] > 0)
    .map((c, i) => `${i === 0 ? plural(counts[c], "operation") : counts[c]} ${change === "new-api" && c === "added" ? "" : c}`.trim())
    .join(", ");
  const takes = supersedes.length > 0 ? ` and takes the place of ${supersedes.join(" and ")}` : "";
  switch (change) {
    case "new-api":
      return `${api} ${version} becomes a new API with ${what || "no operation"}.`;
    case "new-version":
      return `${api} gets version ${version}${takes}: ${what}.`;
    case "replacement":
      return `The content of ${api} ${version} is replaced${takes}: ${what}.`;
    case "restoration":
      return `${api} ${version} becomes active again${takes}: ${what}.`;
  }
}

/** A sentence about a rule that changes, apart from the word of contracts that it begins with: "rate: at most 9 calls a second (was: …)". */
export function ruleParts(rule: string): { word: string; text: string } {
  const [word = ""] = /^[a-z-]+/.exec(rule) ?? [];
  return { word, text: rule.slice(word.length) };
}

export interface RemovedOperation {
  id: string;
  /** Traffic of the last 24 hours. */
  exchanges: number;
  devices: number;
}

/** The operations that go, with who called them in the last 24 hours, busiest first. */
export function removedOperations(plan: SchemaPlan, now: SchemaApiDetail | undefined): RemovedOperation[] {
  return plan.operations
    .filter((o) => o.change === "removed")
    .map(({ id }) => {
      const of = now?.traffic.filter((t) => t.operation === id) ?? [];
      return { id, exchanges: total(of, "exchanges"), devices: Math.max(0, ...of.map((t) => t.devices)) };
    })
    .sort((a, b) => b.exchanges - a.exchanges);
}

export function total(traffic: readonly SchemaOperationTraffic[], of: "exchanges" | "refused" | "failed"): number {
  return traffic.reduce((sum, t) => sum + t[of], 0);
}

/** The most that a document may have. */
export const maxDocumentBytes = 8 << 20;
