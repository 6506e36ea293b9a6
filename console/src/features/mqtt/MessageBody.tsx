import { useMemo } from "react";
import type { SchemaCapturedMessage } from "@/api/schema.gen";
import { bodyText } from "./words";

/** What a message carries, or why it is not shown. */
export function MessageBody({ content, label }: { content: SchemaCapturedMessage; label: string }) {
  const text = useMemo(() => bodyText(content), [content]);
  return (
    <>
      {content.note && <p className="text-soft">{content.note}</p>}
      {text !== "" && (
        <pre tabIndex={0} role="group" aria-label={label} className="max-h-80 overflow-auto rounded border border-line bg-sunken px-3 py-2 font-mono text-xs break-all whitespace-pre-wrap">{text}</pre>
      )}
      {text === "" && !content.note && <p className="text-quiet">It carries nothing.</p>}
    </>
  );
}
