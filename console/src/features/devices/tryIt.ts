// A ready command for a new device over each protocol: an operation of a contract, with this installation's addresses.
import { read } from "@/api/client";
import type { SchemaListener, SchemaOperation } from "@/api/schema.gen";

export interface Trial {
  operation: SchemaOperation;
  /** An example of the payload, from the contract. */
  payload: string;
}

/** An operation that a device can be tried with: the one that can be called by most protocols. */
export async function findTrial(signal?: AbortSignal): Promise<Trial | null> {
  const { items } = await read("/api/v1/apis", { query: { filter: "state:active kind:openapi,asyncapi" }, signal });
  const own = items.filter((api) => !api.builtIn).sort((a, b) => b.protocols.length - a.protocols.length);
  const [api] = own;
  if (!api) return null;
  const { operations } = await read("/api/v1/apis/{api}", { path: { api: api.name }, signal });
  const operation = operations.filter((o) => !o.passThrough).sort((a, b) => rank(b) - rank(a))[0];
  if (!operation) return null;
  const reference = await read("/api/v1/apis/{api}/versions/{version}/reference", { path: { api: api.name, version: operation.version }, signal }).catch(() => undefined);
  return { operation, payload: exampleOf(reference, operation.id) };
}

function rank(operation: SchemaOperation): number {
  const { http = "", coap = "", mqtt = "" } = operation;
  return (http ? 4 : 0) + (coap ? 2 : 0) + (mqtt.startsWith("publish") ? 3 : 0) + (http.startsWith("GET") ? -1 : 0);
}

/** The first example of an operation's request in an OpenAPI document. */
export function exampleOf(document: unknown, operation: string): string {
  const paths = (document as { paths?: Record<string, Record<string, unknown>> } | undefined)?.paths ?? {};
  for (const methods of Object.values(paths)) {
    for (const candidate of Object.values(methods)) {
      const found = candidate as { operationId?: string; requestBody?: { content?: Record<string, Content> } };
      if (found?.operationId !== operation) continue;
      const content = found.requestBody?.content?.["application/json"];
      const example = content?.example ?? Object.values(content?.examples ?? {})[0]?.value;
      return example === undefined ? "{}" : JSON.stringify(example);
    }
  }
  return "{}";
}

interface Content {
  example?: unknown;
  examples?: Record<string, { value?: unknown }>;
}

export interface Command {
  protocol: "http" | "mqtt" | "coap";
  text: string;
}

/** The commands for the protocols that the operation has and the node listens to. */
export function commands(listeners: readonly SchemaListener[], trial: Trial | null, device: string, token: string, host: string): Command[] {
  const at = (name: string) => listeners.find((l) => l.name === name)?.address.replace(/^(?:\[::\]|0\.0\.0\.0)?(?=:\d+$)/, host);
  const fill = (template: string) => template.replace(/\{[^}]+\}/g, device);
  const [http, mqtt, coap] = [at("http"), at("mqtt"), at("coap")];
  const { operation, payload = "{}" } = trial ?? {};
  const found: Command[] = [];
  if (http) {
    const [method, path] = (operation?.http ?? (operation ? "" : "GET /")).split(" ");
    const body = method === "GET" ? "" : `-X ${method} -H 'Content-Type: application/json' -d ${shell(payload)} `;
    if (path) found.push({ protocol: "http", text: `curl -i ${body}-H 'Authorization: Bearer ${token}' http://${http}${fill(path)}` });
  }
  const topic = /^publish (\S+)/.exec(operation?.mqtt ?? "")?.[1];
  if (mqtt && topic) {
    const [, address, port] = /^(.*):(\d+)$/.exec(mqtt) ?? [];
    found.push({ protocol: "mqtt", text: `mosquitto_pub -V mqttv5 -h ${address} -p ${port} -i ${device} -u ${device} -P ${token} -q 1 -t ${shell(fill(topic))} -m ${shell(payload)}` });
  }
  const [coapMethod, coapPath] = (operation?.coap ?? "").split(" ");
  if (coap && coapMethod && coapPath) {
    const body = coapMethod === "GET" ? "" : `-t 50 -e ${shell(payload)} `;
    found.push({ protocol: "coap", text: `coap-client-notls -m ${coapMethod.toLowerCase()} ${body}-O 65002,${token} coap://${coap}${fill(coapPath)}` });
  }
  return found;
}

const shell = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
