import { describe, expect, it } from "vitest";
import { checkFilter, complete, formatFilter, parseFilter, valueOf, withRange, withTerm, type FilterField } from "./filter";

const fields: FilterField[] = [
  { key: "protocol", help: "", values: ["http", "mqtt"] },
  { key: "device", help: "" },
  { key: "since", help: "" },
];

describe("parseFilter", () => {
  it.each([
    ["", []],
    ["protocol:mqtt", [["protocol", "mqtt", false]]],
    ["-model:T2  pump", [["model", "T2", true], ["", "pump", false]]],
    ['name:"a b" x', [["name", "a b", false], ["", "x", false]]],
    ['name:"say \\"hi\\""', [["name", 'say "hi"', false]]],
    ['name:"open end', [["name", "open end", false]]],
    ["topic/a:b", [["", "topic/a:b", false]]],
    ["device:a:b", [["device", "a:b", false]]],
    ["-", [["", "-", false]]],
  ])("%s", (text, want) => {
    expect(parseFilter(text).map((t) => [t.key, t.value, t.negated])).toEqual(want);
  });

  it.each(['protocol:mqtt -model:T2 name:"a b"', '"quoted word" x', 'name:"back\\\\slash \\" end"', 'device:""'])("comes back as it was: %s", (text) => {
    expect(formatFilter(parseFilter(text))).toBe(text);
  });
});

it("sets, replaces and removes one key", () => {
  expect(withTerm("protocol:http x", "device", "d 7")).toBe('protocol:http x device:"d 7"');
  expect(withTerm("device:a x", "device", "b")).toBe("x device:b");
  expect(withTerm("device:a x", "device", "")).toBe("x");
  expect(valueOf("device:a -device:b", "device")).toBe("a");
  expect(valueOf("device:a device:b", "device")).toBeUndefined();
});

it("adds the range only where the filter names no time", () => {
  expect(withRange("x", "1h")).toBe("x since:1h");
  expect(withRange("since:5m", "1h")).toBe("since:5m");
});

it("says what a list does not know", () => {
  expect(checkFilter("protocol:mqtt pump -device:d1", fields)).toBeUndefined();
  expect(checkFilter("protocol:mqtt,http device:pump-* protocol:h*", fields)).toBeUndefined();
  expect(checkFilter("colour:red", fields)).toContain("colour");
  expect(checkFilter("protocol:ftp", fields)).toContain("http, mqtt");
});

describe("complete", () => {
  const labels = (text: string, caret = text.length) => complete(text, caret, fields).map((s) => s.label);
  it("offers every key in an empty field", () => expect(labels("")).toEqual(["protocol:", "device:", "since:"]));
  it("offers the keys that begin so, negated too", () => expect(labels("x -de")).toEqual(["-device:"]));
  it("offers values after a key", () => expect(labels("protocol:")).toEqual(["http", "mqtt"]));
  it("offers values after a comma", () => {
    expect(complete("protocol:http,m", 15, fields)).toMatchObject([{ label: "mqtt", text: "protocol:http,mqtt " }]);
  });
  it("offers nothing for what is complete or free", () => {
    expect(labels("protocol:mqtt")).toEqual([]);
    expect(labels("device:x")).toEqual([]);
  });
  it("replaces the word at the caret and keeps the rest", () => {
    const [first] = complete("pro x", 3, fields);
    expect(first).toMatchObject({ text: "protocol: x", caret: 9 });
    const [value] = complete("protocol:m", 10, fields);
    expect(value).toMatchObject({ text: "protocol:mqtt ", caret: 14 });
  });
});
