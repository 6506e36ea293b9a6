import { expect, it } from "vitest";
import { breach, breachOf, hexLines, jsonLines, readPayload } from "./payload";

const body = (text: string) => btoa(text);
const shown = (value: unknown, redacted: [string, string][] = []) =>
  jsonLines(value, new Map(redacted)).map((l) => "  ".repeat(l.depth) + l.key + l.text + (l.comma ? "," : ""));

it("shows JSON a member a line", () => {
  expect(shown({ temp: 21.5, tags: ["a", "b"], none: {}, ok: true })).toEqual(["{", '  "temp": 21.5,', '  "tags": [', '    "a",', '    "b"', "  ],", '  "none": {},', '  "ok": true', "}"]);
});

it("shows what was redacted as redacted, whoever says so", () => {
  expect(shown({ name: "x", "a/b": 1 }, [["/name", "private"], ["/a~1b", "secret"]])).toEqual(["{", '  "name": redacted: private,', '  "a/b": redacted: secret', "}"]);
  expect(shown({ key: { redacted: "name" }, more: { redacted: "x-sensitivity" } }).slice(1, 3)).toEqual(['  "key": redacted: its name is that of a secret,', '  "more": redacted: x-sensitivity']);
});

it("bounds what it shows", () => {
  expect(jsonLines(Array.from({ length: 10_000 }, (_, i) => i), new Map()).length).toBeLessThan(2100);
});

it("reads JSON, CBOR, text and bytes", () => {
  expect(readPayload({ body: body('{"a":1}') }).json).toEqual({ value: { a: 1 } });
  expect(readPayload({ body: body("\xa1\x61a\x01"), contentType: "application/cbor" })).toMatchObject({ json: { value: { a: 1 } }, diagnostic: '{"a": 1}' });
  expect(readPayload({ body: body("\xa1\x61a"), contentType: "application/cbor" }).wrong).toBe("it ends too early");
  expect(readPayload({ body: body("hello") })).toMatchObject({ text: "hello" });
  expect(readPayload({ body: body("\x00\x01") }).text).toBeUndefined();
  expect(readPayload({ body: "" }).json).toBeUndefined();
});

it("dumps bytes", () => {
  expect(hexLines(new TextEncoder().encode("abcdefghijklmnop\u0001"))).toEqual([
    "0000  61 62 63 64 65 66 67 68  69 6a 6b 6c 6d 6e 6f 70  abcdefghijklmnop",
    "0010  01                                                .",
  ]);
});

it.each([
  ["/temp /properties/temp/maximum", { pointer: "/temp", clause: "/properties/temp/maximum" }],
  [" /required", { pointer: "", clause: "/required" }],
  ["a sentence", undefined],
  [undefined, undefined],
])("reads the breach %j", (detail, want) => {
  expect(breach(detail)).toEqual(want);
});

it("reads the breach from a refusal", () => {
  expect(breachOf(readPayload({ body: body('{"status":422,"pointer":"/humidity","clause":"/additionalProperties"}') }))).toEqual({ pointer: "/humidity", clause: "/additionalProperties" });
  expect(breachOf(readPayload({ body: body("[1]") }))).toBeUndefined();
  expect(breachOf(readPayload({ body: "" }))).toBeUndefined();
});
