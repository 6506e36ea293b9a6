import { describe, expect, it } from "vitest";
import { auditChanges, decisionVerb, targetPath } from "./audit";

describe("auditChanges", () => {
  it("shows each field that changed", () => {
    expect(auditChanges({ state: "active", model: "T2" }, { state: "quarantined", model: "T2" })).toEqual([{ field: "state", before: "active", after: "quarantined" }]);
  });
  it("shows what was not there before, and what is gone", () => {
    expect(auditChanges(undefined, { name: "Dashboard", model: "" })).toEqual([{ field: "name", before: undefined, after: "Dashboard" }]);
    expect(auditChanges({ sunset: "2027-06-30" }, {})).toEqual([{ field: "sunset", before: "2027-06-30", after: undefined }]);
  });
  it("shows of lists only what came and went", () => {
    expect(auditChanges({ scopes: ["a", "b"] }, { scopes: ["b", "c"] })).toEqual([{ field: "scopes", before: "a", after: "c" }]);
    expect(auditChanges({ scopes: ["a", "b"] }, { scopes: ["b", "a"] })).toEqual([]);
  });
  it("shortens digests", () => {
    const [change] = auditChanges({ digest: "a".repeat(64) }, { digest: "b".repeat(64) });
    expect(change).toEqual({ field: "digest", before: `${"a".repeat(12)}…`, after: `${"b".repeat(12)}…` });
  });
  it("shows numbers and truth values, zero and false too", () => {
    expect(auditChanges({ operations: 0, disabled: false }, { operations: 3, disabled: true })).toEqual([
      { field: "operations", before: "0", after: "3" },
      { field: "disabled", before: "false", after: "true" },
    ]);
  });
});

it("says decisions in words and leads to what they are about", () => {
  expect(decisionVerb("device.quarantine")).toBe("quarantined");
  expect(decisionVerb("target.register")).toBe("registered an address of");
  expect(decisionVerb("thing.turn-round")).toBe("turn round");
  expect(targetPath("api.publish", "thermo 2.4.0")).toBe("/apis/thermo");
  expect(targetPath("device.revoke", "d:7")).toBe("/devices/d%3A7");
  expect(targetPath("target.expire", "therapy")).toBe("/upstreams/therapy");
  expect(targetPath("operator.add", "ana")).toBeUndefined();
});
