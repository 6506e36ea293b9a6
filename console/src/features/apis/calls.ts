// How an operation is called over each protocol: what stands in the cells of the matrix, and commands with this installation's
// addresses.
import type { SchemaListener, SchemaOperation, SchemaOperationProtocol, SchemaOperationTraffic, SchemaProtocol } from "@/api/schema.gen";

/** WebSocket and SSE share a column: both carry what one follows over HTTP. */
export type MatrixColumn = "http" | "mqtt" | "coap" | "stream";

export const columnProtocols: Record<MatrixColumn, readonly SchemaProtocol[]> = { http: ["http"], mqtt: ["mqtt"], coap: ["coap"], stream: ["websocket", "sse"] };

export interface MatrixCell {
  /** How it is called there; empty where only traffic says that it was. */
  call: string;
  traffic: readonly SchemaOperationProtocol[];
}

/** A cell of the matrix; undefined where the operation is not bound to the protocol. */
export function cellOf(operation: SchemaOperation, traffic: SchemaOperationTraffic | undefined, column: MatrixColumn): MatrixCell | undefined {
  const of = traffic?.protocols?.filter((p) => columnProtocols[column].includes(p.protocol)) ?? [];
  const call = column !== "stream" ? (operation[column] ?? "") : isFollowed(operation) ? operation.http!.replace(/^GET /, "follow ") : "";
  return call || of.length > 0 ? { call, traffic: of } : undefined;
}

/** Whether it is a stream over HTTP, too: what can be subscribed to over MQTT or observed over CoAP is. */
function isFollowed({ http, mqtt, coap, passThrough }: SchemaOperation): boolean {
  return !passThrough && http?.startsWith("GET ") === true && (mqtt?.startsWith("subscribe ") === true || coap?.endsWith(" (observe)") === true);
}

/** The columns that some operation has something in. */
export function columnsOf(operations: readonly SchemaOperation[], traffic: readonly SchemaOperationTraffic[]): MatrixColumn[] {
  return (["http", "mqtt", "coap", "stream"] as const).filter((column) => operations.some((o) => cellOf(o, trafficOf(traffic, o), column)));
}

export const trafficOf = (traffic: readonly SchemaOperationTraffic[], { id, version }: SchemaOperation) =>
  traffic.find((t) => t.operation === id && t.version === version);

export interface CallCommand {
  protocol: SchemaProtocol;
  text: string;
}

/** The parameters of an operation's templates, in their order: what one fills in. */
export function parametersOf(operation: SchemaOperation): string[] {
  const names = [operation.http, operation.mqtt, operation.coap].flatMap((call) => [...(call ?? "").matchAll(/\{([^}]+)\}/g)].map((m) => m[1]!));
  return [...new Set(names)];
}

/** Commands that call an operation; `$TOKEN` and one shell variable for each parameter stand for what only the reader knows. */
export function commandsOf(operation: SchemaOperation, listeners: readonly SchemaListener[], host: string, payload: { mediaType: string; value: unknown } | undefined): CallCommand[] {
  const at = (name: string) => listeners.find((l) => l.name === name)?.address.replace(/^(?:\[::\]|0\.0\.0\.0|\*)?(?=:\d+$)/, host);
  const [http, mqtt, coap] = [at("http"), at("mqtt"), at("coap")];
  const body = shell(typeof payload?.value === "string" ? payload.value : JSON.stringify(payload?.value ?? {}));
  const credential = operation.anonymous ? "" : ` -H "Authorization: Bearer $TOKEN"`;
  const found: CallCommand[] = [];

  const [method, path] = split(operation.http);
  if (http && path && !operation.passThrough) {
    const bodied = method === "GET" || method === "DELETE" || method === "HEAD" ? "" : ` -H 'Content-Type: ${payload?.mediaType ?? "application/json"}' -d ${body}`;
    const way = method === "GET" ? "" : ` -X ${method}`;
    const url = `"http://${http}${variables(path)}"`;
    found.push({ protocol: "http", text: `curl -i${way}${credential}${bodied} ${url}` });
    if (isFollowed(operation)) found.push({ protocol: "sse", text: `curl -N${credential} -H 'Accept: text/event-stream' ${url}` });
  }
  const [action, topic] = split(operation.mqtt);
  const [, address, port] = /^(.*):(\d+)$/.exec(mqtt ?? "") ?? [];
  if (address && topic && !operation.passThrough) {
    const [id] = parametersOf(operation);
    const login = operation.anonymous ? "" : ` -i "$${variable(id ?? "id")}" -u "$${variable(id ?? "id")}" -P "$TOKEN"`;
    const common = `-V mqttv5 -h ${address.replace(/^\[|\]$/g, "")} -p ${port}${login} -q ${/QoS (\d)/.exec(operation.mqtt ?? "")?.[1] ?? "1"} -t "${variables(topic)}"`;
    found.push({ protocol: "mqtt", text: action === "subscribe" ? `mosquitto_sub ${common}` : `mosquitto_pub ${common} -m ${body}` });
  }
  const [coapMethod, coapPath] = split(operation.coap);
  if (coap && coapPath && !operation.passThrough) {
    const bodied = coapMethod === "GET" || coapMethod === "DELETE" ? "" : ` -t 50 -e ${body}`;
    const observe = operation.coap!.endsWith(" (observe)") ? " -s 60" : "";
    const token = operation.anonymous ? "" : ` -O "65002,$TOKEN"`;
    found.push({ protocol: "coap", text: `coap-client-notls -m ${coapMethod!.toLowerCase()}${observe}${token}${bodied} "coap://${coap}${variables(coapPath)}"` });
  }
  return found;
}

const split = (call: string | undefined) => (call ?? "").split(" ") as [string | undefined, string | undefined];
const variable = (name: string) => name.replace(/\W/g, "_");
const variables = (template: string) => template.replace(/\{([^}]+)\}/g, (_, name: string) => `$${variable(name)}`);
const shell = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
