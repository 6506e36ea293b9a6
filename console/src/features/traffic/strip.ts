// The pipeline strip: the stages of an exchange as blocks whose width is their time.
import type { SchemaTrafficRecord } from "@/api/schema.gen";
import type { StageName } from "@/lib/words";

export type Verdict = "passed" | "decided" | "skipped";

export interface Block {
  stage: StageName;
  verdict: Verdict;
  /** Microseconds; undefined where it ran unmeasured or did not run. */
  micros: number | undefined;
  /** Share of the strip's width; all together are 1. */
  width: number;
  /** Where it begins, as a share of the strip's width. */
  start: number;
}

/** The order in which stages run. */
const order: readonly StageName[] = ["match", "identify", "admit", "limit", "check", "shield", "forward", "project", "record"];

/** Stages that an operation has only when its contract asks for them: they show only where they ran. */
const rare: readonly StageName[] = ["shield", "project"];

const least = 0.105; // of the width, so that a stage of less than a microsecond can be read

/** The strip of an exchange; empty when nothing is known of its stages. */
export function layOut(exchange: Pick<SchemaTrafficRecord, "stages" | "decided" | "status">): Block[] {
  const { stages = [], status } = exchange;
  const times = new Map(stages.map(({ stage, micros }) => [stage, micros]));
  // No stage refused what the service itself answered with an error.
  const decided = exchange.decided ?? (status >= 400 && times.has("forward") ? "forward" : undefined);
  if (stages.length === 0 && !decided) return [];
  const shown = order.filter((stage) => times.has(stage) || stage === decided || !rare.includes(stage));
  const blocks = shown.map((stage) => {
    const micros = times.get(stage);
    const verdict: Verdict = stage === decided ? "decided" : micros === undefined ? "skipped" : "passed";
    return { stage, verdict, micros: micros || undefined };
  });
  const widths = share(blocks.map((b) => b.micros ?? 0), blocks.map(() => least));
  let start = 0;
  return blocks.map((block, i) => {
    const placed = { ...block, width: widths[i]!, start };
    start += widths[i]!;
    return placed;
  });
}

/** Shares of a whole in proportion to the values, none below its least. */
export function share(values: readonly number[], least: readonly number[]): number[] {
  const fixed = new Set(values.flatMap((value, i) => (value > 0 ? [] : [i])));
  for (;;) {
    const left = 1 - [...fixed].reduce((sum, i) => sum + least[i]!, 0);
    const total = values.reduce((sum, value, i) => (fixed.has(i) ? sum : sum + value), 0);
    const small = values.findIndex((value, i) => !fixed.has(i) && (value / total) * left < least[i]!);
    if (small < 0) {
      const shares = values.map((value, i) => (fixed.has(i) ? least[i]! : (value / total) * left));
      const sum = shares.reduce((a, b) => a + b, 0); // nothing was measured: the least ones fill the strip
      return shares.map((s) => s / sum);
    }
    fixed.add(small);
  }
}

/** The sum of what was measured, in microseconds. */
export function measured(blocks: readonly Block[]): number {
  return blocks.reduce((sum, block) => sum + (block.micros ?? 0), 0);
}

/** A stage's time: tenths below ten microseconds, because many stages take less than one. */
export function stageTime(micros: number): string {
  if (micros < 10) return `${micros.toFixed(1)} µs`;
  if (micros < 10_000) return `${Math.round(micros).toLocaleString("en-GB")} µs`;
  if (micros < 1_000_000) return `${(micros / 1000).toFixed(1)} ms`;
  return `${(micros / 1_000_000).toFixed(2)} s`;
}
