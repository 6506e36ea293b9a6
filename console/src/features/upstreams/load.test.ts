import { expect, test } from "vitest";
import { loadFacts } from "./load";

const none = { underWay: 0, limit: 0, shed: { critical: 0, normal: 0, background: 0 }, retries: 0, retriesRefused: 0, hedges: 0, hedgesWon: 0, mirroring: 0, mirrorsDropped: 0 };

test("what never happened is left out", () => {
  expect(loadFacts(none).filter(([, text]) => text !== undefined)).toEqual([]);
  expect(loadFacts({ ...none, limit: 30, underWay: 4, shed: { ...none.shed, background: 2 }, retriesRefused: 1 }).filter(([, text]) => text !== undefined)).toEqual([
    ["Limit", "30 calls under way, 4 are"],
    ["Refused", "0 critical, 0 normal and 2 background calls beyond the limit"],
    ["Retries", "0, 1 left out beyond the budget"],
  ]);
});
