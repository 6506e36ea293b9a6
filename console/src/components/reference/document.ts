// OpenAPI, AsyncAPI and pass-through documents as one thing: operations, each with how it is called, what goes in and what comes out.
import { list, nameOf, object, resolve, show, text, type Json } from "./json";

export interface ReferenceDocument {
  title: string;
  version: string;
  description: string;
  /** The document itself, in which schemas are looked up. */
  source: Json;
  operations: readonly ReferenceOperation[];
}

export interface ReferenceOperation {
  id: string;
  tag: string;
  summary: string;
  description: string;
  deprecated: boolean;
  /** How it is called: `POST /devices/{id}/telemetry`, and the bindings. */
  calls: readonly { protocol: "http" | "mqtt" | "coap"; text: string }[];
  parameters: readonly Parameter[];
  /** What the caller sends. */
  request: readonly Content[];
  responses: readonly ResponsePart[];
  /** What Fieldgate does with it: limits, access, checks; each as a name and a phrase. */
  words: readonly (readonly [name: string, value: string])[];
}

export interface Parameter {
  name: string;
  place: string;
  required: boolean;
  /** It is the caller's own id. */
  bound: boolean;
  description: string;
  schema: unknown;
}

export interface Content {
  /** A media type, or the name of a message. */
  name: string;
  description: string;
  schema: unknown;
  examples: readonly Example[];
}

export interface Example {
  name: string;
  value: unknown;
  /** The status that it leads to, when it is there to be refused. */
  expect?: number;
}

export interface ResponsePart {
  status: string;
  description: string;
  contents: readonly Content[];
}

export function readDocument(value: unknown): ReferenceDocument {
  const source = object(value);
  const info = object(source.info);
  return {
    title: text(info.title),
    version: show(info.version ?? ""),
    description: text(info.description) || text(info.summary),
    source,
    operations: source.asyncapi ? asyncOperations(source) : source.fieldgate === "pass-through" ? passThroughs(source) : openOperations(source),
  };
}

const methods = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

function openOperations(source: Json): ReferenceOperation[] {
  return Object.entries(object(source.paths)).flatMap(([path, value]) => {
    const item = resolve(source, value);
    return methods.flatMap((method) => {
      if (!item[method]) return [];
      const operation = object(item[method]);
      const call = `${method.toUpperCase()} ${path}`;
      return [
        {
          id: text(operation.operationId) || call,
          tag: show(list(operation.tags)[0] ?? ""),
          summary: text(operation.summary),
          description: text(operation.description),
          deprecated: operation.deprecated === true,
          calls: [{ protocol: "http" as const, text: call }, ...bindings(operation, method.toUpperCase(), path)],
          parameters: parametersOf(source, [...list(item.parameters), ...list(operation.parameters)]),
          request: contentsOf(source, resolve(source, operation.requestBody).content),
          responses: Object.entries(object(operation.responses)).map(([status, response]) => {
            const answer = resolve(source, response);
            return { status, description: text(answer.description), contents: contentsOf(source, answer.content) };
          }),
          words: wordsOf([source, item, operation], securityOf(source, operation)),
        },
      ];
    });
  });
}

function bindings(operation: Json, method: string, path: string): ReferenceOperation["calls"] {
  const { mqtt, coap, http } = object(operation["x-fieldgate-bindings"]);
  const calls: { protocol: "http" | "mqtt" | "coap"; text: string }[] = [];
  if (http) calls.push({ protocol: "http", text: `${text(object(http).method) || method} ${text(object(http).path) || path}` });
  if (mqtt) {
    const { action, topic, qos } = object(mqtt);
    calls.push({ protocol: "mqtt", text: `${text(action) || (method === "GET" ? "subscribe" : "publish")} ${text(topic)} (QoS ${show(qos ?? 1)})` });
  }
  if (coap) {
    const { method: own, path: at, observe } = object(coap);
    calls.push({ protocol: "coap", text: `${text(own) || method} ${text(at) || path}${observe ? " (observe)" : ""}` });
  }
  return calls;
}

function asyncOperations(source: Json): ReferenceOperation[] {
  return Object.entries(object(source.operations)).map(([id, value]) => {
    const operation = resolve(source, value);
    const channel = resolve(source, operation.channel);
    const sends = operation.action === "send";
    const address = text(channel.address);
    const named = list(operation.messages).length > 0 ? list(operation.messages).map((m) => [nameOf(m), m] as const) : Object.entries(object(channel.messages));
    const messages = named.map(([name, m]) => messageOf(source, name, m));
    const qos = list(operation.traits).concat(operation).map((t) => object(object(resolve(source, t).bindings).mqtt).qos).filter((q) => q !== undefined).at(-1);
    return {
      id,
      tag: "",
      summary: text(operation.summary) || text(operation.title),
      description: text(operation.description) || text(channel.description),
      deprecated: false,
      calls: [
        { protocol: "mqtt" as const, text: `${sends ? "subscribe" : "publish"} ${address}${qos === undefined ? "" : ` (QoS ${show(qos)})`}` },
        ...bindings(operation, sends ? "GET" : "POST", `/${address}`),
      ],
      parameters: parametersOf(source, Object.entries(object(channel.parameters)).map(([name, p]) => {
        const parameter = resolve(source, p);
        return { name, in: "topic", required: true, schema: { type: "string", enum: parameter.enum, default: parameter.default }, ...parameter };
      })),
      request: sends ? [] : messages,
      responses: sends ? [{ status: "message", description: "What the caller receives.", contents: messages }] : [],
      words: wordsOf([source, channel, operation], ""),
    };
  });
}

function messageOf(source: Json, name: string, value: unknown): Content {
  const message = resolve(source, value);
  const payload = object(message.payload);
  return {
    name: text(message.title) || text(message.name) || name,
    description: text(message.description) || text(message.summary),
    schema: "schemaFormat" in payload ? payload.schema : message.payload,
    examples: list(message.examples).map((e, i) => exampleOf(text(object(e).name) || `example ${i + 1}`, e, object(e).payload)),
  };
}

function passThroughs(source: Json): ReferenceOperation[] {
  const access = text(source.access);
  return (["http", "mqtt", "coap"] as const).flatMap((protocol) =>
    list(source[protocol]).map((value, i) => {
      const rule = object(value);
      const where = text(rule.filter) || `${text(rule.host)}${text(rule.prefix) || "/"}*`;
      return {
        id: `${protocol}-${i + 1}`, tag: "", summary: "Everything passes unchecked", description: "", deprecated: false,
        calls: [{ protocol, text: protocol === "mqtt" ? `publish and subscribe ${where}` : `any ${where}` }],
        parameters: [], request: [], responses: [],
        words: [["access", access], ["upstream", text(rule.upstream)]].filter(([, v]) => v) as [string, string][],
      };
    }),
  );
}

function parametersOf(source: Json, values: readonly unknown[]): Parameter[] {
  const byName = new Map<string, Parameter>();
  for (const value of values) {
    const p = resolve(source, value);
    const place = text(p.in);
    byName.set(`${place} ${text(p.name)}`, {
      name: text(p.name), place, required: p.required === true, bound: p["x-fieldgate-bind"] === "principal",
      description: text(p.description), schema: p.schema ?? {},
    });
  }
  return [...byName.values()];
}

function contentsOf(source: Json, value: unknown): Content[] {
  return Object.entries(object(value)).map(([name, media]) => {
    const { schema, example, examples } = object(media);
    const named = Object.entries(object(examples)).map(([n, e]) => exampleOf(n, resolve(source, e), resolve(source, e).value));
    const own = list(resolve(source, schema).examples).map((v, i) => ({ name: `example ${i + 1}`, value: v }));
    return { name, description: "", schema, examples: example === undefined ? (named.length > 0 ? named : own) : [{ name: "example", value: example }, ...named] };
  });
}

function exampleOf(name: string, holder: unknown, value: unknown): Example {
  const expect = object(holder)["x-fieldgate-expect"];
  return typeof expect === "number" ? { name, value, expect } : { name, value };
}

function securityOf(source: Json, operation: Json): string {
  const requirements = list(operation.security ?? source.security);
  const schemes = object(object(source.components).securitySchemes);
  return requirements
    .map((r) => {
      const names = Object.entries(object(r)).map(([name, scopes]) => {
        const { type, scheme, in: place, name: key } = resolve(source, schemes[name]);
        const how = type === "http" ? `${text(scheme)} token` : type === "apiKey" ? `${text(place)} ${text(key)}` : text(type) || name;
        return how + (list(scopes).length > 0 ? ` (${list(scopes).map(show).join(", ")})` : "");
      });
      return names.join(" and ") || "none";
    })
    .join(", or ");
}

/** The x-fieldgate words in force: the innermost place that has one counts, and of policies each sort for itself. */
function wordsOf(places: readonly Json[], security: string): ReferenceOperation["words"] {
  const found: Record<string, unknown> = {};
  const policies: Record<string, Json[]> = {};
  for (const place of places) {
    const words = object(place["x-fieldgate"]);
    for (const name of ["access", "scopes", "on-invalid", "upstream", "idempotent", "websocket"]) if (words[name] !== undefined) found[name] = words[name];
    const own = list(words.policies).map(object);
    for (const sort of ["rate", "max-body", "timeout"]) {
      const of = own.filter((p) => p[sort] !== undefined);
      if (of.length > 0) policies[sort] = of;
    }
  }
  const phrases: [string, string][] = [];
  if (security) phrases.push(["credential", security]);
  if (found.access !== undefined) phrases.push(["callers", listed(found.access)]);
  if (found.scopes !== undefined && listed(found.scopes)) phrases.push(["scopes of apps", listed(found.scopes)]);
  for (const { rate, key, burst } of policies.rate ?? []) {
    phrases.push(["rate", `${show(rate)} for each ${rateKey(text(key))}${burst === undefined ? "" : `, ${show(burst)} at once`}`]);
  }
  for (const p of policies["max-body"] ?? []) phrases.push(["largest body", show(p["max-body"])]);
  for (const p of policies.timeout ?? []) phrases.push(["timeout", show(p.timeout)]);
  if (found["on-invalid"]) phrases.push(["invalid payloads", found["on-invalid"] === "shadow" ? "pass, and are noted as findings" : "are refused"]);
  if (found.upstream) phrases.push(["upstream", show(found.upstream)]);
  if (found.websocket === true) phrases.push(["WebSocket", "upgrades pass"]);
  if (found.idempotent !== undefined) phrases.push(["tried again", found.idempotent ? "yes, when the upstream fails" : "never"]);
  return phrases;
}

const listed = (value: unknown) => (Array.isArray(value) ? value.map(show).join(", ") : show(value));
const rateKey = (key: string) => (key === "operation" ? "operation, all callers together" : key === "source" ? "address" : "caller");

/** The first example of what an operation takes that is to succeed. */
export function requestExample(operation: ReferenceOperation | undefined): { mediaType: string; value: unknown } | undefined {
  for (const content of operation?.request ?? []) {
    const example = content.examples.find((e) => e.expect === undefined || e.expect < 400);
    if (example) return { mediaType: content.name.includes("/") ? content.name : "application/json", value: example.value };
  }
  return undefined;
}
