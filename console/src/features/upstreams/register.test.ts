import { describe, expect, it, test } from "vitest";
import { emptyForm, formOf, placeOf, readTarget, registerCommand, removeCommand } from "./register";

const form = (over: Partial<typeof emptyForm>) => ({ ...emptyForm, address: "http://10.0.0.7:9000", ...over });

describe("readTarget", () => {
  it("reads what is written, without blanks around it", () => {
    expect(readTarget(form({ address: " http://10.0.0.7:9000 ", zone: " hall-3 ", priority: "2", weight: "10", ttl: "1h30m" }))).toEqual({
      address: "http://10.0.0.7:9000", body: { zone: "hall-3", priority: 2, weight: 10, ttlSeconds: 5400 }, wrong: {},
    });
  });
  it.each(["http://10.0.0.7", "https://service.lan:8443/", "http://[fd00::1]:80", "http://h:65535"])("takes %s", (address) =>
    expect(readTarget(form({ address })).wrong).toEqual({}));
  it.each(["", "10.0.0.7:9000", "ftp://h:1", "http://", "http://h:0", "http://h:65536", "http://h/path", "http://h?q", "http://u@h", `http://${"h".repeat(300)}`])("refuses the address %j", (address) =>
    expect(Object.keys(readTarget(form({ address })).wrong)).toEqual(["address"]));
  it.each([["zone", "ä".repeat(33)], ["priority", "16"], ["priority", "-1"], ["priority", ""], ["weight", "0"], ["weight", "1001"], ["weight", "1.5"], ["ttl", "9s"], ["ttl", "24h1s"], ["ttl", "60"], ["ttl", ""]] as const)(
    "refuses the %s %j", (field, value) => expect(Object.keys(readTarget(form({ [field]: value })).wrong)).toEqual([field]));
  it.each([["10s", 10], ["10m", 600], ["24h", 86_400], ["1m30s", 90]])("reads the time %s", (ttl, seconds) => expect(readTarget(form({ ttl })).body.ttlSeconds).toBe(seconds));
});

test("what is registered is written as one would write it", () => {
  const target = { upstream: "therapy", address: "http://h:1", zone: "a", priority: 1, weight: 2, ttlSeconds: 5400, registrar: "ana", registeredAt: "", renewedAt: "", expiresAt: "" };
  expect(formOf(target)).toEqual({ address: "http://h:1", zone: "a", priority: "1", weight: "2", ttl: "1h30m" });
  expect(readTarget(formOf(target)).body).toEqual({ zone: "a", priority: 1, weight: 2, ttlSeconds: 5400 });
});

describe("the commands", () => {
  it("name what is not as it is anyway", () => {
    expect(registerCommand("therapy", form({}))).toBe("fieldgate upstream register therapy http://10.0.0.7:9000 --ttl 1h");
    expect(registerCommand("therapy", form({ zone: "hall 3", priority: "1", weight: "3", ttl: "30s" }))).toBe(
      "fieldgate upstream register therapy http://10.0.0.7:9000 --zone 'hall 3' --priority 1 --weight 3 --ttl 30s");
    expect(removeCommand("therapy", "http://[fd00::1]:80")).toBe("fieldgate upstream remove therapy 'http://[fd00::1]:80'");
  });
  it("leave out what is wrong", () => expect(registerCommand("therapy", form({ address: "h", weight: "x", ttl: "" }))).toBe("fieldgate upstream register therapy http://HOST:PORT"));
});

test.each([
  [{ priority: 0, weight: 1 }, ""],
  [{ zone: "hall-3", priority: 1, weight: 3 }, "zone hall-3, priority 1, weight 3"],
  [{ priority: 0, weight: 0 }, ""],
])("%j is at %j", (address, text) => expect(placeOf(address)).toBe(text));
