import { expect, it } from "vitest";
import { formatBytes, formatDuration, formatExpiry, formatRate, formatRelative, formatShare, formatShortCount, plural } from "./format";

it.each([
  [0, "0"], [847, "847"], [9999, "9,999"], [12_345, "12.3 k"], [999_999, "1,000 k"], [4_061_000, "4.06 M"], [-20_000, "-20 k"],
])("short count %d", (value, want) => expect(formatShortCount(value)).toBe(want));

it.each([[0, "0"], [0.04, "<0.1"], [0.44, "0.4"], [12.34, "12.3"], [1240.4, "1,240"], [123_456, "123 k"]])("rate %d", (value, want) =>
  expect(formatRate(value)).toBe(want));

it.each([[0, 0, "0 %"], [1, 10_000, "<0.1 %"], [4, 100, "4.0 %"], [999, 1000, ">99 %"], [1000, 1000, "100 %"]])("share %d of %d", (part, whole, want) =>
  expect(formatShare(part, whole)).toBe(want));

it.each([[0, "0 B"], [1023, "1023 B"], [1024, "1 KiB"], [1_300_000, "1.24 MiB"]])("bytes %d", (value, want) =>
  expect(formatBytes(value)).toBe(want));

it.each([[180, "180 µs"], [1500, "1.5 ms"], [12_400, "12.4 ms"], [1_300_000, "1.3 s"], [240_000_000, "4 min"]])("duration %d", (value, want) =>
  expect(formatDuration(value)).toBe(want));

it("says how long ago, and in how long", () => {
  const now = Date.UTC(2026, 0, 1);
  expect(formatRelative(new Date(now - 500), now)).toBe("just now");
  expect(formatRelative(new Date(now - 240_000), now)).toBe("4 min ago");
  expect(formatRelative(new Date(now + 3 * 86_400_000), now)).toBe("in 3 days");
});

it.each([[40 * 60_000, "expires in 40 min"], [5 * 3_600_000, "expires in 5 h"], [30 * 86_400_000, "expires in 30 days"], [-1, "expired just now"], [-49 * 3_600_000, "expired 2 days ago"]])(
  "an end in %d ms", (left, want) => expect(formatExpiry(new Date(Date.UTC(2026, 0, 1) + left), Date.UTC(2026, 0, 1))).toBe(want));

it("counts things", () => {
  expect(plural(1, "device")).toBe("1 device");
  expect(plural(2000, "device")).toBe("2,000 devices");
  expect(plural(0, "entry", "entries")).toBe("0 entries");
});
