import { EyeOff, TriangleAlert } from "lucide-react";
import { useMemo, useState } from "react";
import type { SchemaCapturedExchange, SchemaCapturedMessage } from "@/api/schema.gen";
import { Bytes } from "@/components/values";
import { classes } from "@/components/class";
import { breachOf, hexLines, jsonLines, readPayload, redactedWords, type Breach, type JsonLine, type Payload } from "./payload";

type View = "json" | "cbor" | "text" | "hex";

const viewNames: Record<View, string> = { json: "JSON", cbor: "CBOR diagnostic", text: "Text", hex: "Hex" };

/** Request and response side by side. `known` is where the request breaks the contract; otherwise the refusal itself may say so. */
export function CapturedPair({ captured, known }: { captured: SchemaCapturedExchange; known?: Breach }) {
  const breach = useMemo(() => known ?? breachOf(readPayload(captured.response)), [known, captured.response]);
  return (
    <div className="@container flex flex-col gap-2">
      <code className="break-all">
        {captured.path}
        {captured.query && <span className="text-quiet">?{captured.query}</span>}
      </code>
      <div className="grid items-start gap-3 @xl:grid-cols-2">
        <Message title="Request" message={captured.request} breach={breach} />
        <Message title="Response" message={captured.response} />
      </div>
    </div>
  );
}

function Message({ title, message, breach }: { title: string; message: SchemaCapturedMessage; breach?: Breach }) {
  const payload = useMemo(() => readPayload(message), [message]);
  const views = viewsOf(payload, message);
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
        <div tabIndex={0} role="group" aria-label={`Fields of the ${title.toLowerCase()}`} className="max-h-40 overflow-y-auto border-b border-line px-3 py-2 focus-visible:outline-offset-[-2px]">
          <dl className="grid grid-cols-[auto_minmax(0,1fr)] gap-x-3 font-mono text-xs">
            {message.headers.map(({ name, value, redacted }, i) => (
              <div key={i} className="contents">
                <dt className="text-quiet">{name}</dt>
                <dd className="break-all">{redacted ? <Redacted text={redactedWords(redacted)} /> : value}</dd>
              </div>
            ))}
          </dl>
        </div>
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
      {payload.bytes.length > 0 && message.size > payload.bytes.length && !message.json && (
        <p className="border-t border-line px-3 py-2 text-xs text-quiet">The first {payload.bytes.length.toLocaleString("en-GB")} bytes; more are not kept.</p>
      )}
    </section>
  );
}

const Redacted = ({ text }: { text: string }) => (
  <span className="inline-flex items-center gap-1 rounded-sm bg-sunken px-1 text-soft">
    <EyeOff size={12} className="shrink-0" aria-hidden /> {text}
  </span>
);

/** The ways to show a body. Its bytes say nothing of what was on the wire where the gateway wrote it as JSON. */
function viewsOf(payload: Payload, message: SchemaCapturedMessage): View[] {
  if (payload.bytes.length === 0) return [];
  const rewritten = message.json && (!/json/i.test(message.contentType ?? "json") || (message.redacted?.length ?? 0) > 0);
  return [
    ...(payload.json ? (["json"] as const) : []),
    ...(payload.diagnostic !== undefined ? (["cbor"] as const) : []),
    ...(!payload.json && payload.text !== undefined ? (["text"] as const) : []),
    ...(rewritten && payload.json ? [] : (["hex"] as const)),
  ];
}

function Body({ title, view, payload, message, breach }: {
  title: string;
  view: View;
  payload: Payload;
  message: SchemaCapturedMessage;
  breach?: Breach;
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

function Json({ value, message, breach }: { value: unknown; message: SchemaCapturedMessage; breach?: Breach }) {
  const lines = useMemo(() => jsonLines(value, new Map(message.redacted?.map(({ pointer, reason }) => [pointer, reason]))), [value, message.redacted]);
  return lines.map((line, i) => {
    const broken = breach !== undefined && line.pointer === breach.pointer && (line.pointer !== "" || i === 0);
    return (
      <div key={i} className={classes("flex px-3", broken && "bg-bad-tint")} style={{ paddingLeft: 12 + line.depth * 14 }}>
        <span className="min-w-0 break-all">
          <span className="text-soft">{line.key}</span>
          {line.kind === "redacted" ? (
            <Redacted text={line.text} />
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
