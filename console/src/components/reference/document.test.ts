import { describe, expect, it } from "vitest";
import { readDocument, requestExample } from "./document";
import { blocks, spans } from "./markdown";

const openapi = {
  openapi: "3.1.0", info: { title: "Thermo", version: "2.4.0" }, security: [{ token: [] }],
  "x-fieldgate": { upstream: "ingest", policies: [{ rate: "10/s", key: "principal" }, { timeout: "5s" }] },
  components: { securitySchemes: { token: { type: "http", scheme: "bearer" } } },
  paths: {
    "/devices/{id}/telemetry": {
      parameters: [{ name: "id", in: "path", required: true, "x-fieldgate-bind": "principal", schema: { type: "string" } }],
      post: {
        operationId: "sendTelemetry", summary: "One reading",
        "x-fieldgate": { policies: [{ rate: "60/min", key: "id", burst: 20 }], "on-invalid": "reject" },
        "x-fieldgate-bindings": { coap: { path: "/t" }, mqtt: { topic: "d/{id}/telemetry", action: "publish", qos: 1 } },
        requestBody: { content: { "application/json": { schema: { type: "object" }, examples: { hot: { value: { temp: 900 }, "x-fieldgate-expect": 422 }, ok: { value: { temp: 20 } } } } } },
        responses: { "204": { description: "stored" } },
      },
    },
  },
};

describe("readDocument", () => {
  it("reads OpenAPI: calls over each protocol, parameters, examples, rules", () => {
    const [operation] = readDocument(openapi).operations;
    expect(operation).toMatchObject({
      id: "sendTelemetry",
      calls: [
        { protocol: "http", text: "POST /devices/{id}/telemetry" },
        { protocol: "mqtt", text: "publish d/{id}/telemetry (QoS 1)" },
        { protocol: "coap", text: "POST /t" },
      ],
      parameters: [{ name: "id", place: "path", bound: true, required: true }],
      responses: [{ status: "204", description: "stored", contents: [] }],
    });
    // The rate of the operation takes the place of the document's; its timeout stays.
    expect(Object.fromEntries(operation!.words)).toEqual({
      credential: "bearer token", rate: "60/min for each caller, 20 at once", timeout: "5s", "invalid payloads": "are refused", upstream: "ingest",
    });
  });
  it("takes an example that is to succeed for commands", () => {
    expect(requestExample(readDocument(openapi).operations[0])).toEqual({ mediaType: "application/json", value: { temp: 20 } });
  });
  it("reads AsyncAPI: what the service receives goes in, what it sends comes out", () => {
    const channel = { address: "t/{id}/pos", parameters: { id: { description: "own id", "x-fieldgate-bind": "principal" } }, messages: { pos: { payload: { type: "object" }, examples: [{ name: "moving", payload: { lat: 1 } }] } } };
    const { operations } = readDocument({
      asyncapi: "3.0.0", info: { title: "T", version: "1" }, channels: { pos: channel },
      operations: { report: { action: "receive", channel, "x-fieldgate-bindings": { http: { path: "/pos" }, coap: {} } }, watch: { action: "send", channel: { $ref: "#/channels/pos" }, bindings: { mqtt: { qos: 2 } } } },
    });
    expect(operations[0]).toMatchObject({
      id: "report", request: [{ name: "pos", examples: [{ name: "moving", value: { lat: 1 } }] }], responses: [],
      calls: [{ protocol: "mqtt", text: "publish t/{id}/pos" }, { protocol: "http", text: "POST /pos" }, { protocol: "coap", text: "POST /t/{id}/pos" }],
      parameters: [{ name: "id", place: "topic", bound: true }],
    });
    expect(operations[1]).toMatchObject({ id: "watch", request: [], responses: [{ contents: [{ name: "pos" }] }], calls: [{ text: "subscribe t/{id}/pos (QoS 2)" }] });
  });
  it("reads pass-through documents", () => {
    const { operations } = readDocument({ fieldgate: "pass-through", access: "anonymous", http: [{ prefix: "/legacy", upstream: "old" }], mqtt: [{ filter: "legacy/#" }] });
    expect(operations.map((o) => o.calls[0]!.text)).toEqual(["any /legacy*", "publish and subscribe legacy/#"]);
  });
  it("survives anything", () => {
    for (const wrong of [undefined, null, [], 7, { paths: 3 }, { asyncapi: "3.0.0", operations: { a: null } }, { paths: { "/": { get: 1 } } }]) expect(() => readDocument(wrong)).not.toThrow();
  });
});

describe("descriptions", () => {
  it("have paragraphs, lists and tables", () => {
    expect(blocks("One\ntwo.\n\n- a\n- b\n  more\n\n| x | y |\n|---|---|\n| 1 | 2 |")).toEqual([
      { kind: "paragraph", text: "One two." },
      { kind: "list", items: ["a", "b more"] },
      { kind: "table", head: ["x", "y"], rows: [["1", "2"]] },
    ]);
  });
  it("have code and emphasis, and never HTML", () => {
    expect(spans("Send `a*b` **now** <b>x</b> [there](http://x)")).toEqual([
      { kind: "text", text: "Send " }, { kind: "code", text: "a*b" }, { kind: "text", text: " " }, { kind: "strong", text: "now" },
      { kind: "text", text: " <b>x</b> " }, { kind: "text", text: "there" },
    ]);
  });
  it("ends for every text", () => {
    for (const source of ["```\nopen", "|", "| a", "- ", "#", "# ", "\n\n", "-x\n|y"]) expect(blocks(source)).toBeDefined();
  });
});
