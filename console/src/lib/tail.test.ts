import { expect, it } from "vitest";
import { arrived, continued, emptyTail, isLong, lostSome, opened, type TailList } from "./tail";

const entries = (...names: (string | number)[]) => names.map((n) => ({ instance: String(n) }));
const names = (list: TailList<{ instance: string }>) => list.rows.map((row) => row.instance).join(" ");
const list = opened(emptyTail as TailList<{ instance: string }>, { items: entries("b", "a"), next: "older" });

it("inserts at the beginning while the reader is there", () => {
  expect(names(arrived(list, entries("d", "c"), false))).toBe("d c b a");
});

it("holds while one reads, and shows what was held with what comes next", () => {
  const held = arrived(arrived(list, entries("c"), true), entries("d"), true);
  expect([names(held), held.heldCount]).toEqual(["b a", 2]);
  const shown = arrived(held, [], false);
  expect([names(shown), shown.heldCount]).toEqual(["d c b a", 0]);
});

it("shows no exchange twice, whether it came live or by page", () => {
  expect(names(arrived(list, entries("c", "b"), false))).toBe("c b a");
  expect(names(arrived(opened(list, { items: entries("d", "c") }), entries("e", "d"), false))).toBe("e d c");
  const more = continued(list, { items: entries("a", "0") });
  expect([names(more), more.next]).toEqual(["b a 0", undefined]);
});

it("keeps a bounded number, and says when that left some out", () => {
  const many = entries(...Array.from({ length: 700 }, (_, i) => i));
  const held = arrived(list, many, true);
  expect([held.held.length, held.heldCount, lostSome(held)]).toEqual([500, 700, true]);
  let flooded = list;
  for (let i = 0; i < 10; i++) flooded = arrived(flooded, entries(...Array.from({ length: 700 }, (_, k) => `${i}-${k}`)), false);
  expect(flooded.rows.length).toBeLessThanOrEqual(2002);
  expect([isLong(flooded), isLong(list)]).toEqual([true, false]);
});
