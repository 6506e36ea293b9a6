import { describe, expect, it } from "vitest";
import type { SchemaApiDetail, SchemaPlan } from "@/api/schema.gen";
import { planSentence, removedOperations, ruleParts } from "./plan";

const plan = (over: Partial<SchemaPlan>): SchemaPlan => ({
  api: "thermo", version: "2.5.0", title: "Thermo", kind: "openapi", digest: "", change: "new-version", applied: false, findings: [],
  operations: [{ id: "a", change: "added" }, { id: "b", change: "unchanged" }, { id: "c", change: "removed" }], ...over,
});

describe("planSentence", () => {
  it("says what is superseded and what becomes of the operations, removed ones first", () => {
    expect(planSentence(plan({ supersedes: ["2.4.0"] }))).toBe("thermo gets version 2.5.0 and takes the place of 2.4.0: 1 operation removed, 1 added, 1 unchanged.");
  });
  it("calls a first version a new API", () => {
    expect(planSentence(plan({ change: "new-api", operations: [{ id: "a", change: "added" }, { id: "b", change: "added" }] }))).toBe("thermo 2.5.0 becomes a new API with 2 operations.");
  });
  it("says that nothing changes", () => {
    expect(planSentence(plan({ change: "none" }))).toContain("changes nothing");
  });
  it("tells a replacement from a restoration", () => {
    expect(planSentence(plan({ change: "replacement" }))).toContain("content of thermo 2.5.0 is replaced");
    expect(planSentence(plan({ change: "restoration" }))).toContain("becomes active again");
  });
});

it("tells the word of a changed rule from what is said of it", () => {
  expect(ruleParts("check-answers is new: answers pass")).toEqual({ word: "check-answers", text: " is new: answers pass" });
  expect(ruleParts("rate: at most 9 calls a second (was: at most 6 calls a minute)")).toEqual({ word: "rate", text: ": at most 9 calls a second (was: at most 6 calls a minute)" });
});

describe("removedOperations", () => {
  const traffic = (operation: string, exchanges: number, devices: number) => ({
    api: "thermo", version: "2.4.0", operation, exchanges, passed: exchanges, refused: 0, failed: 0, devices, p50Micros: 0, p90Micros: 0, p99Micros: 0, bytesIn: 0, bytesOut: 0,
  });
  const now = { traffic: [traffic("c", 40, 7), traffic("d", 90, 3), traffic("b", 5, 1)] } as unknown as SchemaApiDetail;
  it("says who calls what goes, busiest first", () => {
    const operations = [{ id: "c", change: "removed" as const }, { id: "d", change: "removed" as const }, { id: "e", change: "removed" as const }, { id: "b", change: "changed" as const }];
    expect(removedOperations(plan({ operations }), now)).toEqual([
      { id: "d", exchanges: 90, devices: 3 },
      { id: "c", exchanges: 40, devices: 7 },
      { id: "e", exchanges: 0, devices: 0 },
    ]);
  });
  it("knows no traffic of a new API", () => {
    expect(removedOperations(plan({}), undefined)).toEqual([{ id: "c", exchanges: 0, devices: 0 }]);
  });
});
