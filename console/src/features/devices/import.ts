// Importing many devices: a text of one JSON object a line goes up, one answer a line comes back while it is stored.
import { address } from "@/api/client";
import { ApiProblem, unreachable } from "@/api/problem";
import type { SchemaImportLine, SchemaProblem } from "@/api/schema.gen";

export type ImportMode = "good" | "all";

export interface ImportState {
  /** Devices that the node has looked at or stored so far. */
  checked: number;
  added: number;
  /** How many lines were refused, and the first of them. */
  refusedCount: number;
  refused: readonly { line: number; id?: string; why: string }[];
  /** Of each device, as NDJSON, for the download. */
  tokens: readonly string[];
  /** The last line. Without it the answer was cut off. */
  summary?: { applied: boolean; lines: number; added: number; refused: number };
}

export const mostRefusedShown = 500;

export const emptyImport: ImportState = { checked: 0, added: 0, refusedCount: 0, refused: [], tokens: [] };

/** What a line of the answer adds to what is known. */
export function take(state: ImportState, line: SchemaImportLine): ImportState {
  if (line.done) {
    const { applied = false, lines = 0, added = 0, refused = 0 } = line;
    return { ...state, checked: lines, added, refusedCount: refused, summary: { applied, lines, added, refused } };
  }
  if (line.problem) {
    const entry = { line: line.line ?? 0, id: line.id, why: line.problem.detail ?? line.problem.title };
    return {
      ...state,
      refusedCount: state.refusedCount + 1,
      refused: state.refused.length < mostRefusedShown ? [...state.refused, entry] : state.refused,
    };
  }
  if (line.token !== undefined) {
    (state.tokens as string[]).push(`${JSON.stringify({ id: line.id, token: line.token })}\n`); // a million of them is not copied
    return { ...state, added: state.tokens.length };
  }
  return { ...state, checked: line.checked ?? state.checked, added: line.added ?? state.added };
}

/** Cuts a stream of text into whole lines; what follows the last line end is given with `end`. */
export class Lines {
  #rest = "";

  add(text: string): string[] {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop()!;
    return lines.filter((line) => line.trim() !== "");
  }

  end(): string[] {
    const rest = this.#rest;
    this.#rest = "";
    return rest.trim() ? [rest] : [];
  }
}

/** What can be said of a text before it is sent: how many devices it has, and which lines are no JSON objects with an id. */
export function preview(text: string): { devices: number; wrong: { line: number; why: string }[] } {
  let devices = 0;
  const wrong: { line: number; why: string }[] = [];
  text.split("\n").forEach((content, i) => {
    if (content.trim() === "") return;
    devices++;
    if (wrong.length >= 5) return;
    try {
      const value: unknown = JSON.parse(content);
      if (typeof value !== "object" || value === null || Array.isArray(value)) wrong.push({ line: i + 1, why: "is no JSON object" });
      else if (typeof (value as { id?: unknown }).id !== "string") wrong.push({ line: i + 1, why: "has no id" });
    } catch {
      wrong.push({ line: i + 1, why: "is no JSON" });
    }
  });
  return { devices, wrong };
}

/** Sends the devices and tells what became of them as it becomes known. */
export async function importDevices(body: Blob | string, mode: ImportMode, onState: (state: ImportState) => void, signal: AbortSignal): Promise<ImportState> {
  let response: Response;
  try {
    response = await fetch(address("/api/v1/imports/devices", {}, { mode }), {
      method: "POST",
      headers: { "content-type": "application/x-ndjson", accept: "application/x-ndjson, application/problem+json" },
      body,
      signal,
      credentials: "same-origin",
    });
  } catch (error) {
    if (signal.aborted) throw error;
    throw unreachable();
  }
  if (!response.ok || !response.body) {
    const json = response.headers.get("content-type")?.includes("json");
    throw json ? new ApiProblem((await response.json()) as SchemaProblem) : unreachable();
  }
  let state: ImportState = { ...emptyImport, tokens: [] };
  const lines = new Lines();
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read().catch(() => ({ done: true, value: undefined })); // cut off: there is no summary then
    const texts = done ? [...lines.add(decoder.decode()), ...lines.end()] : lines.add(decoder.decode(value, { stream: true }));
    for (const text of texts) {
      const line = parse(text);
      if (line) state = take(state, line);
    }
    onState(state);
    if (done) return state;
  }
}

/** A line that was cut off in its middle is no line. */
function parse(text: string): SchemaImportLine | undefined {
  try {
    return JSON.parse(text) as SchemaImportLine;
  } catch {
    return undefined;
  }
}
