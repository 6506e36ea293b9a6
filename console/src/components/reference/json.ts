// Documents as they come: JSON of any shape, read without trusting any of it.
export type Json = Record<string, unknown>;

export const object = (value: unknown): Json => (typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : {});
export const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
export const text = (value: unknown): string => (typeof value === "string" ? value : "");

/** A value as it is written in JSON, texts without quotes. */
export const show = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value));

/** What a `$ref` of the document means; anything else is itself. The API resolves references but where they recur. */
export function resolve(document: Json, value: unknown): Json {
  let node = object(value);
  for (let i = 0; i < 32 && typeof node.$ref === "string"; i++) {
    let target: unknown = document;
    for (const part of node.$ref.replace(/^#\/?/, "").split("/")) {
      target = object(target)[unescape(part)];
    }
    node = object(target);
  }
  return node;
}

/** A segment of a JSON Pointer in a fragment (RFC 6901 section 6). */
function unescape(part: string): string {
  try {
    return decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~");
  } catch {
    return part; // no such percent-encoding: it leads to nothing
  }
}

/** The last part of the reference that stood, or stands, where a value is: `Telemetry`. */
export function nameOf(value: unknown): string {
  const { $ref, "x-ref": resolved } = object(value);
  const reference = text($ref) || text(resolved);
  return reference.slice(reference.lastIndexOf("/") + 1);
}
