// The document that is about to be published. It is too large for the URL and not stored anywhere; a page that was reloaded has
// none, and asks for it again.
import { useSyncExternalStore } from "react";
import { formatBytes } from "@/lib/format";
import type { Document } from "./api";
import { maxDocumentBytes } from "./plan";

export type Handover = { document: Document } | { refusal: string } | undefined;

let handed: Handover;
const listeners = new Set<() => void>();

export function handOver(next: Handover) {
  handed = next;
  listeners.forEach((listener) => listener());
}

export function handOverText(name: string, text: string) {
  const size = new TextEncoder().encode(text).length;
  handOver(size > maxDocumentBytes ? { refusal: tooLarge(name, size) } : { document: { name, text } });
}

/** Reads a file that was dropped or chosen; one that is too large is not read. */
export async function handOverFile(file: File) {
  if (file.size > maxDocumentBytes) return handOver({ refusal: tooLarge(file.name, file.size) });
  handOver({ document: { name: file.name, text: await file.text() } });
}

const tooLarge = (name: string, size: number) =>
  `${name} has ${formatBytes(size)}; a contract has at most ${formatBytes(maxDocumentBytes)}. Nothing was sent. Split it into several APIs, or move large examples out of it.`;

export function useHandover(): Handover {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    () => handed,
  );
}
