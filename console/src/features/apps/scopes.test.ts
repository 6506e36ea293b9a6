import { expect, it } from "vitest";
import { parseScopes, toggleScope } from "./scopes";

it("reads scopes, each once", () => {
  expect(parseScopes(" telemetry.read, state.read\ntelemetry.read ")).toEqual(["telemetry.read", "state.read"]);
  expect(parseScopes("")).toEqual([]);
});

it("adds a scope and takes it out again", () => {
  expect(toggleScope("a", "b")).toBe("a b");
  expect(toggleScope("a b", "a")).toBe("b");
  expect(toggleScope("", "a")).toBe("a");
});
