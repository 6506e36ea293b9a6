import { expect, it } from "vitest";
import { decodeCbor } from "./cbor";

const bytes = (hex: string) => Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));

// RFC 8949 appendix A, with the spaces of §8.
it.each([
  ["00", "0"], ["17", "23"], ["1818", "24"], ["1903e8", "1000"], ["1a000f4240", "1000000"], ["1b000000e8d4a51000", "1000000000000"],
  ["1bffffffffffffffff", "18446744073709551615"], ["3bffffffffffffffff", "-18446744073709551616"], ["20", "-1"], ["3903e7", "-1000"],
  ["f90000", "0.0"], ["f98000", "-0.0"], ["f93c00", "1.0"], ["fb3ff199999999999a", "1.1"], ["f93e00", "1.5"], ["f97bff", "65504.0"],
  ["fa47c35000", "100000.0"], ["fa7f7fffff", "3.4028234663852886e+38"], ["fb7e37e43c8800759c", "1e+300"], ["f90001", "5.960464477539063e-8"],
  ["f90400", "0.00006103515625"], ["f9c400", "-4.0"], ["fbc010666666666666", "-4.1"], ["f97c00", "Infinity"], ["f97e00", "NaN"], ["f9fc00", "-Infinity"],
  ["f4", "false"], ["f5", "true"], ["f6", "null"], ["f7", "undefined"], ["f0", "simple(16)"], ["f8ff", "simple(255)"],
  ["c11a514b67b0", "1(1363896240)"], ["d74401020304", "23(h'01020304')"], ["40", "h''"], ["4401020304", "h'01020304'"],
  ["60", '""'], ["6449455446", '"IETF"'], ["62225c", '"\\"\\\\"'], ["62c3bc", '"ü"'], ["64f0908591", '"𐅑"'],
  ["80", "[]"], ["83010203", "[1, 2, 3]"], ["8301820203820405", "[1, [2, 3], [4, 5]]"], ["a0", "{}"], ["a201020304", "{1: 2, 3: 4}"],
  ["a26161016162820203", '{"a": 1, "b": [2, 3]}'], ["826161a161626163", '["a", {"b": "c"}]'],
  ["5f42010243030405ff", "(_ h'0102', h'030405')"], ["7f657374726561646d696e67ff", '(_ "strea", "ming")'], ["9fff", "[_ ]"],
  ["9f018202039f0405ffff", "[_ 1, [2, 3], [_ 4, 5]]"], ["bf61610161629f0203ffff", '{_ "a": 1, "b": [_ 2, 3]}'],
])("%s is %s", (hex, diagnostic) => {
  expect(decodeCbor(bytes(hex)).diagnostic).toBe(diagnostic);
});

it("gives the value as JSON has it", () => {
  expect(decodeCbor(bytes("a301181a0241ff6161f5")).value).toEqual({ "1": 26, "2": "h'ff'", a: true });
  expect(decodeCbor(bytes("a1695f5f70726f746f5f5f01")).value).toEqual(JSON.parse('{"__proto__": 1}'));
});

it("breaks long values into lines", () => {
  expect(decodeCbor(bytes(`82781e${"61".repeat(30)}781e${"62".repeat(30)}`)).diagnostic).toBe(`[\n  "${"a".repeat(30)}",\n  "${"b".repeat(30)}"\n]`);
});

it.each([
  ["", "ends too early"], ["18", "ends too early"], ["1c", "reserved length"], ["62ff", "longer"], ["62c328", "not UTF-8"], ["9b7fffffffffffffff", "more items"],
  ["bbffffffffffffffff", "more items"], ["0000", "1 bytes follow"], ["ff", "reserved value"], ["9f01", "ends too early"], ["bf01ff", "key without a value"],
  ["5f6161ff", "no chunk"], ["5b7fffffffffffffff", "longer"], ["81".repeat(80) + "00", "nested too deeply"],
])("refuses %s: %s", (hex, why) => {
  expect(() => decodeCbor(bytes(hex))).toThrow(why);
});
