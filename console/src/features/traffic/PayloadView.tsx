import { EyeOff, TriangleAlert } from "lucide-react";
import { useMemo, useState } from "react";
import type { SchemaCapturedExchange, SchemaCapturedMessage } from "@/api/schema.gen";
import { Bytes } from "@/components/values";
import { classes } from "@/components/class";
import { hexLines, jsonLines, readPayload, type JsonLine, type Payload } from "./payload";

type View = "json" | "cbor" | "text" | "hex";

const viewNames: Record<View, string> = { json: "JSON", cbor: "CBOR diagnostic", text: "Text", hex: "Hex" };

/** Request and response side by side. `breach` is where the request breaks the contract. */
export function CapturedPair({ captured, breach }: { captured: SchemaCapturedExchange; breach?: { pointer: string; clause: string } }) {
  return (
    <div className="@container">
      <div className="grid items-start gap-3 @xl:grid-cols-2">
        <Message title="Request" message={captured.request} breach={breach} />
        <Message title="Response" message={captured.response} />
      </div>
    </div>
  );
}

function Message({ title, message, breach }: { title: string; message: SchemaCapturedMessage; breach?: { pointer: string; clause: string } }) {
  const payload = useMemo(() => readPayload(message), [message]);
  const views = viewsOf(payload);
  const [chosen, setChosen] = useState<View>();
  const view = chosen && views.includes(chosen) ? chosen : views[0];
  return (
    <section aria-label={title} className="min-w-0 rounded border border-line">
      <header className="flex min-h-9 flex-wrap items-center gap-x-3 border-b border-line px-3 py-1">
        <h3 className="font-semibold">{title}</h3>
        <span className="text-xs text-quiet">
          <Bytes bytes={message.size} />
          {message.contentType && <> of <code>{message.contentType}</code></>}
        </span>
        {views.length > 1 && (
          <div role="group" aria-label={`Show the ${title.toLowerCase()} as`} className="ml-auto flex">
            {views.map((name) => (
              <button
                key={name}
                type="button"
                aria-pressed={name === view}
                className={classes("h-6 rounded-sm px-2 text-xs font-medium", name === view ? "bg-pressed text-text" : "text-soft hover:text-text")}
                onClick={() => setChosen(name)}
              >
                {viewNames[name]}
              </button>
            ))}
          </div>
        )}
      </header>
      {message.headers.length > 0 && (
        <dl className="grid max-h-40 grid-cols-[auto_minmax(0,1fr)] gap-x-3 overflow-y-auto border-b border-line px-3 py-2 font-mono text-xs" tabIndex={0} aria-label={`Fields of the ${title.toLowerCase()}`} role="group">
          {message.headers.map(({ name, value }, i) => (
            <div key={i} className="contents">
              <dt className="text-quiet">{name}</dt>
              <dd className="break-all">{value}</dd>
            </div>
          ))}
        </dl>
      )}
      {message.note && <p className="border-b border-line px-3 py-2 text-soft last:border-b-0">{message.note}</p>}
      {payload.wrong && (
        <p className="flex gap-2 border-b border-line px-3 py-2 text-bad">
          <TriangleAlert size={14} className="mt-0.5 shrink-0" aria-hidden /> It says that it is CBOR, and is not: {payload.wrong}.
        </p>
      )}
      {payload.bytes.length === 0
        ? !message.note && <p className="px-3 py-3 text-quiet">No payload.</p>
        : view && <Body title={title} view={view} payload={payload} message={message} breach={breach} />}
      {payload.bytes.length > 0 && message.size > payload.bytes.length && !message.redacted?.length && (
        <p className="border-t border-line px-3 py-2 text-xs text-quiet">The first {payload.bytes.length.toLocaleString("en-GB")} bytes; more are not kept.</p>
      )}
    </section>
  );
}

function viewsOf(payload: Payload): View[] {
  if (payload.bytes.length === 0) return [];
  return [
    ...(payload.json ? (["json"] as const) : []),
    ...(payload.diagnostic !== undefined ? (["cbor"] as const) : []),
    ...(!payload.json && payload.text !== undefined ? (["text"] as const) : []),
    "hex",
  ];
}

function Body({ title, view, payload, message, breach }: {
  title: string;
  view: View;
  payload: Payload;
  message: SchemaCapturedMessage;
  breach?: { pointer: string; clause: string };
}) {
  return (
    <div tabIndex={0} role="group" aria-label={`${title} as ${viewNames[view]}`} className="max-h-96 overflow-auto py-2 font-mono text-xs leading-5 focus-visible:outline-offset-[-2px]">
      {view === "json" && payload.json && <Json value={payload.json.value} message={message} breach={breach} />}
      {view !== "json" && <pre className="w-max min-w-full px-3">{view === "cbor" ? payload.diagnostic : view === "text" ? payload.text : hexLines(payload.bytes).join("\n")}</pre>}
    </div>
  );
}

const colours: Record<JsonLine["kind"], string> = {
  punctuation: "text-quiet", string: "text-good", number: "text-accent", word: "text-notice", redacted: "",
};

function Json({ value, message, breach }: { value: unknown; message: SchemaCapturedMessage; breach?: { pointer: string; clause: string } }) {
  const lines = useMemo(() => jsonLines(value, new Map(message.redacted?.map(({ pointer, reason }) => [pointer, reason]))), [value, message.redacted]);
  return lines.map((line, i) => {
    const broken = breach !== undefined && line.pointer === breach.pointer && (line.pointer !== "" || i === 0);
    return (
      <div key={i} className={classes("flex px-3", broken && "bg-bad-tint")} style={{ paddingLeft: 12 + line.depth * 14 }}>
        <span className="min-w-0 break-all">
          <span className="text-soft">{line.key}</span>
          {line.kind === "redacted" ? (
            <span className="inline-flex items-center gap-1 rounded-sm bg-sunken px-1 text-soft">
              <EyeOff size={12} className="shrink-0" aria-hidden /> {line.text}
            </span>
          ) : (
            <span className={colours[line.kind]}>{line.text}</span>
          )}
          <span className="text-quiet">{line.comma && ","}</span>
          {broken && <span className="ml-2 font-sans text-bad">breaks {breach.clause}</span>}
        </span>
      </div>
    );
  });
}
