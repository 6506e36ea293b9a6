import { describe, expect, it } from "vitest";
import type { SchemaOperation, SchemaOperationTraffic } from "@/api/schema.gen";
import { cellOf, columnsOf, commandsOf, parametersOf } from "./calls";

const send: SchemaOperation = {
  version: "2.4.0", id: "sendTelemetry", anonymous: false, kinds: ["device"],
  http: "POST /devices/{deviceId}/telemetry", coap: "POST /t", mqtt: "publish d/{deviceId}/telemetry (QoS 1)",
};
const receive: SchemaOperation = {
  version: "2.4.0", id: "receiveCommands", anonymous: false, kinds: ["device"],
  http: "GET /devices/{deviceId}/commands", coap: "GET /c (observe)", mqtt: "subscribe d/{deviceId}/cmd (QoS 1)",
};
const open: SchemaOperation = { version: "1.0.0", id: "ping", anonymous: true, http: "GET /ping" };
const listeners = [{ name: "http", address: "[::]:8080" }, { name: "mqtt", address: "0.0.0.0:1883" }, { name: "coap", address: "10.0.0.5:5683" }];

describe("the matrix", () => {
  it("has a cell where the operation is bound", () => {
    expect(cellOf(send, undefined, "coap")).toEqual({ call: "POST /t", traffic: [] });
    expect(cellOf(open, undefined, "mqtt")).toBeUndefined();
  });
  it("has a stream where it can be subscribed to or observed", () => {
    expect(cellOf(receive, undefined, "stream")?.call).toBe("follow /devices/{deviceId}/commands");
    expect(cellOf(send, undefined, "stream")).toBeUndefined();
    expect(columnsOf([send], [])).toEqual(["http", "mqtt", "coap"]);
    expect(columnsOf([send, receive], [])).toEqual(["http", "mqtt", "coap", "stream"]);
  });
  it("shows traffic that came by a protocol without a binding", () => {
    const protocol = { protocol: "websocket" as const, exchanges: 3, refused: 0, failed: 0, p50Micros: 1, p99Micros: 2 };
    const traffic: SchemaOperationTraffic = {
      api: "a", version: "1.0.0", operation: "ping", exchanges: 3, passed: 3, refused: 0, failed: 0, devices: 1,
      p50Micros: 1, p90Micros: 1, p99Micros: 2, bytesIn: 0, bytesOut: 0, protocols: [protocol],
    };
    expect(cellOf(open, traffic, "stream")).toEqual({ call: "", traffic: [protocol] });
  });
});

describe("commands", () => {
  const payload = { mediaType: "application/json", value: { note: "it's hot" } };
  const commands = commandsOf(send, listeners, "fg.example", payload);
  it("are there for each protocol that the node listens to", () => {
    expect(commands.map((c) => c.protocol)).toEqual(["http", "mqtt", "coap"]);
    expect(commandsOf(send, [listeners[0]!], "fg.example", payload).map((c) => c.protocol)).toEqual(["http"]);
  });
  it("name the installation's addresses, and the reader's host where it listens everywhere", () => {
    expect(commands[0]!.text).toContain('"http://fg.example:8080/devices/$deviceId/telemetry"');
    expect(commands[1]!.text).toContain("-h fg.example -p 1883");
    expect(commands[2]!.text).toContain('"coap://10.0.0.5:5683/t"');
  });
  it("quote payloads for the shell", () => {
    expect(commands[0]!.text).toContain(`-d '{"note":"it'\\''s hot"}'`);
  });
  it("carry no credential where none is needed", () => {
    expect(commandsOf(open, listeners, "h", undefined)).toEqual([{ protocol: "http", text: 'curl -i "http://h:8080/ping"' }]);
  });
  it("follow what is a stream", () => {
    const texts = commandsOf(receive, listeners, "h", undefined).map((c) => c.text);
    expect(texts[1]).toContain("text/event-stream");
    expect(texts[2]).toContain("mosquitto_sub");
    expect(texts[3]).toContain("-s 60");
  });
  it("are not made of a pass-through", () => {
    expect(commandsOf({ ...open, passThrough: true, http: "any /legacy*" }, listeners, "h", undefined)).toEqual([]);
  });
});

it("names each parameter once", () => {
  expect(parametersOf(send)).toEqual(["deviceId"]);
});
