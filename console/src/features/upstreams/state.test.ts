import { expect, test } from "vitest";
import type { SchemaUpstream } from "@/api/schema.gen";
import { upstreamState } from "./state";

const load = {} as SchemaUpstream["load"]; // says nothing about the state
const one: SchemaUpstream = {
  name: "therapy", healthy: 2, unhealthy: 0, inFlight: 0, calls: 0, failures: 0, latency: 0, registered: false, load, addresses: [],
  gateways: [{ node: "g1", algorithm: "round-robin", healthy: 2, unhealthy: 0, load }],
};

test.each([
  [{}, "healthy"],
  [{ circuit: "closed" }, "healthy"],
  [{ circuit: "open" }, "refusing"],
  [{ circuit: "half-open", unhealthy: 2, healthy: 0 }, "refusing"],
  [{ healthy: 0, unhealthy: 2 }, "down"],
  [{ healthy: 1, unhealthy: 1 }, "degraded"],
  [{ problem: "DNS has no address" }, "degraded"],
  [{ gateways: [], healthy: 0 }, "not used"],
  [{ healthy: 0 }, "no address"],
] as const)("%j is %s", (changes, word) => {
  expect(upstreamState({ ...one, ...changes } as SchemaUpstream).word).toBe(word);
});
