import { expect, it } from "vitest";
import { commands, exampleOf } from "./tryIt";

const operation = {
  version: "1", id: "send", anonymous: false,
  http: "POST /devices/{deviceId}/telemetry", coap: "POST /t", mqtt: "publish d/{deviceId}/telemetry (QoS 1)",
};
const listeners = [{ name: "http", address: "0.0.0.0:8080" }, { name: "mqtt", address: "127.0.0.1:1883" }, { name: "coap", address: "[::]:5683" }];

it("makes a command for each protocol, with the device's own path and topic", () => {
  expect(commands(listeners, { operation, payload: '{"temp":21}' }, "d7", "fgd_x", "node.lan")).toEqual([
    { protocol: "http", text: `curl -i -X POST -H 'Content-Type: application/json' -d '{"temp":21}' -H 'Authorization: Bearer fgd_x' http://node.lan:8080/devices/d7/telemetry` },
    { protocol: "mqtt", text: `mosquitto_pub -V mqttv5 -h 127.0.0.1 -p 1883 -i d7 -u d7 -P fgd_x -q 1 -t 'd/d7/telemetry' -m '{"temp":21}'` },
    { protocol: "coap", text: `coap-client-notls -m post -t 50 -e '{"temp":21}' -O 65002,fgd_x coap://node.lan:5683/t` },
  ]);
});

it("gives only what the node listens to, and something without any contract", () => {
  expect(commands(listeners.slice(1, 2), { operation, payload: "{}" }, "d7", "t", "h").map((c) => c.protocol)).toEqual(["mqtt"]);
  expect(commands(listeners, null, "d7", "t", "h")).toEqual([{ protocol: "http", text: "curl -i -H 'Authorization: Bearer t' http://h:8080/" }]);
});

it("quotes payloads for the shell", () => {
  expect(commands(listeners, { operation, payload: `{"a":"it's"}` }, "d7", "t", "h")[0]!.text).toContain(`-d '{"a":"it'\\''s"}'`);
});

it("finds the example of an operation", () => {
  const content = { "application/json": { examples: { ok: { value: { temp: 21.5 } } } } };
  const document = { paths: { "/t": { parameters: [], post: { operationId: "send", requestBody: { content } }, get: { operationId: "read" } } } };
  expect([exampleOf(document, "send"), exampleOf(document, "read"), exampleOf(undefined, "send")]).toEqual(['{"temp":21.5}', "{}", "{}"]);
});
