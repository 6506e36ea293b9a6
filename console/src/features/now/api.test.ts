import { expect, it } from "vitest";
import { firstCommand } from "./api";

const device = { device: "first-1a2b", token: "fgd_x" };

it.each([
  ["0.0.0.0:8080", "http://node.lan:8080/"],
  ["[::]:8080", "http://node.lan:8080/"],
  [":8080", "http://node.lan:8080/"],
  ["127.0.0.1:8080", "http://127.0.0.1:8080/"],
  ["[fd00::1]:80", "http://[fd00::1]:80/"],
])("reaches a listener at %s", (address, want) => {
  expect(firstCommand([{ name: "http", address }], null, device, "node.lan")).toBe(`curl -i -H 'Authorization: Bearer fgd_x' ${want}`);
});

it("calls an operation as the new device", () => {
  const operation = { version: "1", id: "send", anonymous: false, http: "POST /devices/{deviceId}/telemetry" };
  const command = firstCommand([{ name: "http", address: "127.0.0.1:8080" }], operation, device, "localhost");
  expect(command).toContain("-X POST");
  expect(command).toMatch(/http:\/\/127\.0\.0\.1:8080\/devices\/first-1a2b\/telemetry$/);
});
