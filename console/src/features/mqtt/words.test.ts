import { expect, test } from "vitest";
import { bodyText, lasting, quoted, wrongFilter } from "./words";

test.each([
  [0, "as long as its connection"],
  [4294967295, "for ever"],
  [3600, /^1 h|60 min/],
])("a session of %d seconds", (expirySeconds, text) => expect(lasting({ expirySeconds })).toMatch(text));

test.each([
  [{ body: btoa('{"a":1}'), json: true }, '{\n  "a": 1\n}'],
  [{ body: btoa("hello"), json: false }, "hello"],
  [{ body: btoa("\u00ff\u0000"), json: false }, "ff 00"],
])("%j reads %j", (message, text) => expect(bodyText(message)).toBe(text));

test("values of a filter are quoted where they must", () => {
  expect(quoted("pump-1/a+#")).toBe("pump-1/a+#");
  expect(quoted('a "b"')).toBe('"a \\"b\\""');
});

test.each(["plant/#", "plant/+/state", "#", "+", ""])("%j is a filter", (text) => expect(wrongFilter(text)).toBe(""));

test.each([
  ["plant#", "#"],
  ["#/a", "#"],
  ["a/b+", "+"],
  ["$share/g/a", "Shared"],
])("%j is none", (text, why) => expect(wrongFilter(text).startsWith(why)).toBe(true));
