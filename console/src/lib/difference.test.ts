import { expect, it } from "vitest";
import { differences } from "./difference";

const labels = { state: "State", model: "Model", firmware: "Firmware", scopes: "Scopes" };

it("shows what somebody else and what one oneself changes", () => {
  expect(differences(labels, { state: "active", model: "T2" }, { state: "quarantined", model: "T2" }, { model: "T3" })).toEqual([
    { field: "State", seen: "active", now: "quarantined", mine: "quarantined" },
    { field: "Model", seen: "T2", now: "T2", mine: "T3" },
  ]);
});

it("keeps what only the other changed, and shows values that came or went", () => {
  expect(differences(labels, {}, { firmware: "1.9.0" }, {})).toEqual([{ field: "Firmware", seen: "", now: "1.9.0", mine: "1.9.0" }]);
  expect(differences(labels, { model: "T2" }, {}, { model: "T2" })).toEqual([{ field: "Model", seen: "T2", now: "", mine: "T2" }]);
});

it("takes scopes for a set", () => {
  expect(differences(labels, { scopes: ["a", "b"] }, { scopes: ["b", "a"] }, { scopes: ["a", "b"] })).toEqual([]);
  expect(differences(labels, { scopes: ["a"] }, { scopes: ["a", "b"] }, { scopes: [] })).toEqual([{ field: "Scopes", seen: "a", now: "a, b", mine: "" }]);
});
