// A captured body as people read it: JSON lines with what was redacted and what breaks the contract, CBOR's diagnostic notation, hex.
import type { SchemaCapturedMessage } from "@/api/schema.gen";
import { decodeCbor } from "./cbor";

export interface Payload {
  bytes: Uint8Array;
  /** The value, when the body is JSON or CBOR. */
  json?: { value: unknown };
  /** CBOR's diagnostic notation, when the body is CBOR. */
  diagnostic?: string;
  /** What is wrong with it, when it says that it is CBOR and is not. */
  wrong?: string;
  text?: string;
}

export function readPayload({ body, contentType = "" }: Pick<SchemaCapturedMessage, "body" | "contentType">): Payload {
  const bytes = Uint8Array.from(atob(body), (c) => c.charCodeAt(0));
  if (bytes.length === 0) return { bytes };
  const text = asText(bytes);
  if (text !== undefined) {
    try {
      return { bytes, text, json: { value: JSON.parse(text) as unknown } };
    } catch {
      // it is some other text, or CBOR that happens to be UTF-8
    }
  }
  if (/cbor/i.test(contentType)) {
    try {
      const { value, diagnostic } = decodeCbor(bytes);
      return { bytes, json: { value }, diagnostic };
    } catch (error) {
      return { bytes, text, wrong: (error as Error).message };
    }
  }
  return { bytes, text };
}

function asText(bytes: Uint8Array): string | undefined {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    // eslint-disable-next-line no-control-regex
    return /[\u0000-\u0008\u000b\u000c\u000e-\u001f]/.test(text) ? undefined : text;
  } catch {
    return undefined;
  }
}

export interface JsonLine {
  depth: number;
  /** `"temp": `, or nothing in a list. */
  key: string;
  text: string;
  kind: "punctuation" | "string" | "number" | "word" | "redacted";
  pointer: string;
  comma: boolean;
}

const mostLines = 2000;

/** A value as lines; values at redacted pointers are replaced by the reason. */
export function jsonLines(value: unknown, redacted: ReadonlyMap<string, string>): JsonLine[] {
  const lines: JsonLine[] = [];
  const walk = (value: unknown, key: string, depth: number, pointer: string, comma: boolean) => {
    if (lines.length >= mostLines) return;
    const line = (text: string, kind: JsonLine["kind"]) => lines.push({ depth, key, text, kind, pointer, comma });
    const reason = redacted.get(pointer) ?? reasonIn(value);
    if (reason !== undefined) return line(redactedWords(reason), "redacted");
    if (typeof value !== "object" || value === null) {
      return line(JSON.stringify(value) ?? "null", typeof value === "string" ? "string" : typeof value === "number" ? "number" : "word");
    }
    const isList = Array.isArray(value);
    const entries = Object.entries(value);
    const [open, close] = isList ? ["[", "]"] : ["{", "}"];
    if (entries.length === 0) return line(open + close, "punctuation");
    lines.push({ depth, key, text: open, kind: "punctuation", pointer, comma: false });
    entries.forEach(([name, entry], i) => {
      const escaped = name.replaceAll("~", "~0").replaceAll("/", "~1");
      walk(entry, isList ? "" : `${JSON.stringify(name)}: `, depth + 1, `${pointer}/${escaped}`, i < entries.length - 1);
    });
    lines.push({ depth, key: "", text: close, kind: "punctuation", pointer: "", comma });
  };
  walk(value, "", 0, "", false);
  return lines;
}

/** What a gateway puts in the place of a value that it took out. */
function reasonIn(value: unknown): string | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const keys = Object.keys(value);
  const { redacted } = value as { redacted?: unknown };
  return keys.length === 1 && typeof redacted === "string" ? redacted : undefined;
}

const reasons: Record<string, string> = {
  name: "its name is that of a secret",
  credential: "it looks like a credential",
  schema: "the contract's schema could not be followed",
};

/** Why a gateway took a value out, in words; what the contract says of the field stands as it is. */
export const redactedWords = (reason: string) => `redacted: ${reasons[reason] ?? reason}`;

/** Sixteen bytes a line, as hexdump -C writes them. */
export function hexLines(bytes: Uint8Array): string[] {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = Array.from(bytes.subarray(at, at + 16));
    const hex = row.map((b) => b.toString(16).padStart(2, "0"));
    const left = hex.slice(0, 8).join(" ").padEnd(23);
    const right = hex.slice(8).join(" ").padEnd(23);
    const text = row.map((b) => (b >= 32 && b < 127 ? String.fromCharCode(b) : ".")).join("");
    lines.push(`${at.toString(16).padStart(4, "0")}  ${left}  ${right}  ${text}`);
  }
  return lines;
}

export interface Breach {
  /** The place in the payload. */
  pointer: string;
  /** What it breaks of the contract's schema. */
  clause: string;
}

/** Where a payload breaks the contract, as a record's detail says it: `/temp /properties/temp/maximum`. */
export function breach(detail: string | undefined): Breach | undefined {
  const found = /^(\/\S*)?\s+(\/\S+)$/.exec(detail ?? "") ?? undefined;
  return found && { pointer: found[1] ?? "", clause: found[2]! };
}

/** The same, as the problem details of the answer say it. */
export function breachOf({ json }: Payload): Breach | undefined {
  const { pointer, clause } = (json?.value ?? {}) as { pointer?: unknown; clause?: unknown };
  return typeof pointer === "string" && typeof clause === "string" ? { pointer, clause } : undefined;
}
