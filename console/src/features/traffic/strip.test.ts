import { expect, it } from "vitest";
import { layOut, measured, share, stageTime } from "./strip";

const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);

it("gives width in proportion to time, and none below its least", () => {
  const widths = share([1, 97, 2], [0.1, 0.1, 0.1]);
  expect(widths[0]).toBeCloseTo(0.1);
  expect(widths[1]).toBeCloseTo(0.8);
  expect(widths[2]).toBeCloseTo(0.1);
  expect(share([1, 3], [0.1, 0.1])).toEqual([0.25, 0.75]);
});

it("fills the strip when nothing was measured", () => {
  expect(share([0, 0], [0.1, 0.1])).toEqual([0.5, 0.5]);
});

it.each([[[0.1, 0.1, 0.1, 0.1, 0.1, 5000, 0.1]], [[1, 1, 1, 1, 1, 1, 1]], [[0, 0, 3, 0, 0, 0, 0]]])("never loses a block: %j", (values) => {
  const widths = share(values, values.map(() => 0.095));
  expect(Math.min(...widths)).toBeGreaterThan(0.09);
  expect(sum(widths)).toBeCloseTo(1);
});

it("shows who decided and what did not run any more", () => {
  const blocks = layOut({
    stages: [{ stage: "match", micros: 1.2 }, { stage: "identify", micros: 0 }, { stage: "admit", micros: 0.4 }, { stage: "limit", micros: 2 }, { stage: "record", micros: 3 }],
    decided: "limit",
    status: 429,
  });
  expect(blocks.map((b) => `${b.stage} ${b.verdict} ${b.micros ?? "–"}`)).toEqual([
    "match passed 1.2", "identify passed –", "admit passed 0.4", "limit decided 2", "check skipped –", "forward skipped –", "record passed 3",
  ]);
  expect(sum(blocks.map((b) => b.width))).toBeCloseTo(1);
  expect(blocks[3]!.start).toBeCloseTo(sum(blocks.slice(0, 3).map((b) => b.width)));
  expect(measured(blocks)).toBeCloseTo(6.6);
});

it("names the forward stage for what the service answered", () => {
  const stages = [{ stage: "match", micros: 1 }, { stage: "forward", micros: 9 }] as const;
  const verdict = (status: number) => layOut({ stages: [...stages], status }).find((b) => b.stage === "forward")!.verdict;
  expect([verdict(503), verdict(404), verdict(204)]).toEqual(["decided", "decided", "passed"]);
});

it("shows shield and project only where they ran, and nothing where nothing is known", () => {
  expect(layOut({ stages: [{ stage: "match", micros: 1 }, { stage: "shield", micros: 4 }], status: 200 }).map((b) => b.stage)).toContain("shield");
  expect(layOut({ stages: [{ stage: "match", micros: 1 }], status: 200 }).map((b) => b.stage)).not.toContain("shield");
  expect(layOut({ status: 200 })).toEqual([]);
});

it.each([[0.3, "0.3 µs"], [9.96, "10.0 µs"], [45, "45 µs"], [5012, "5,012 µs"], [45_600, "45.6 ms"], [2_300_000, "2.30 s"]])("writes %d µs as %s", (micros, text) => {
  expect(stageTime(micros)).toBe(text);
});
