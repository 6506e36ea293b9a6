import { Camera, CircleStop } from "lucide-react";
import { useState } from "react";
import { asProblem } from "@/api/problem";
import type { SchemaCaptureDetail, SchemaTrafficRecord } from "@/api/schema.gen";
import { Button } from "@/components/Button";
import { Skeleton } from "@/components/EmptyState";
import { ProblemNotice } from "@/components/ProblemNotice";
import { useClock } from "@/hooks/clock";
import { useUrlParam } from "@/hooks/url";
import { plural } from "@/lib/format";
import { useMay, useSession } from "@/session/session";
import { useCapture, useEndCapture, useStartCapture } from "./api";
import { CapturedPair } from "./PayloadView";

const seconds = 60;
const count = 10;

/** Payloads of this exchange were not kept: keeps those of the next ones like it, and shows them. */
export function CapturePanel({ exchange }: { exchange: SchemaTrafficRecord }) {
  const [id, setId] = useUrlParam("capture");
  const start = useStartCapture();
  const may = useMay("devices.write");
  const { role } = useSession();
  const [refusedOnly, setRefusedOnly] = useState(exchange.status >= 400);
  if (id) return <Running id={id} onClose={() => setId("")} />;

  const like = [
    exchange.principal && <code key="p">{exchange.principal}</code>,
    exchange.operation && <code key="o">{exchange.operation}</code>,
  ].filter(Boolean);
  return (
    <div className="flex flex-col items-start gap-2.5">
      <p className="max-w-[80ch] text-soft">
        The payloads of this exchange were not kept: Fieldgate keeps none unless somebody asks. It can keep those of the next {count} like it
        {like.length > 0 && <> (of {like[0]}{like[1] && <>, {like[1]}</>})</>}, for {seconds} s at the longest and in memory only. Credentials are never kept, and fields that the contract
        calls secret are taken out before they leave the gateway. Your name and what you look at stand in the audit log.
      </p>
      {exchange.status >= 400 && (
        <label className="flex gap-2">
          <input type="checkbox" className="mt-0.5" checked={refusedOnly} onChange={(e) => setRefusedOnly(e.target.checked)} />
          Only those that are refused or fail
        </label>
      )}
      <Button
        icon={Camera}
        busy={start.isPending}
        disabled={!may}
        onClick={() =>
          start.mutate(
            {
              ...(exchange.principal && { principal: exchange.principal }),
              ...(exchange.api && { api: exchange.api }),
              ...(exchange.operation && { operation: exchange.operation }),
              ...(!exchange.principal && !exchange.operation && { protocol: exchange.protocol }),
              ...(refusedOnly && { refused: true }),
              count,
              seconds,
            },
            { onSuccess: (capture) => setId(capture.id) },
          )
        }
      >
        Capture the next ones like this
      </Button>
      {!may && <p className="text-xs text-quiet">The role {role} may not look at payloads; ask an operator or owner.</p>}
      {start.error && <ProblemNotice problem={asProblem(start.error)} />}
    </div>
  );
}

function Running({ id, onClose }: { id: string; onClose: () => void }) {
  const capture = useCapture(id);
  const end = useEndCapture();
  if (capture.error) {
    return (
      <div className="flex flex-col items-start gap-2">
        <ProblemNotice problem={asProblem(capture.error)} />
        <Button onClick={onClose}>Begin anew</Button>
      </div>
    );
  }
  if (!capture.data) return <Skeleton className="h-16 w-full" />;
  const { active } = capture.data.capture;
  return (
    <div className="flex flex-col gap-3">
      <div className="flex flex-wrap items-center gap-x-3 gap-y-2">
        <p role="status" className="flex-1 tabular">
          <Countdown detail={capture.data} />
        </p>
        {active && (
          <Button icon={CircleStop} busy={end.isPending} onClick={() => end.mutate(id, { onSuccess: onClose })}>
            Stop and forget
          </Button>
        )}
        {!active && <Button onClick={onClose}>Begin anew</Button>}
      </div>
      <Caught detail={capture.data} />
    </div>
  );
}

function Countdown({ detail: { capture } }: { detail: SchemaCaptureDetail }) {
  const left = useClock((now) => Math.max(0, Math.ceil((Date.parse(capture.endsAt) - now) / 1000)));
  const caught = `${capture.caught} of ${capture.count} caught`;
  if (!capture.active) return <>The capture is over: {caught}. It is forgotten within a quarter of an hour.</>;
  return (
    <>
      Capturing, {left} s left: {caught}. The audit log names {capture.actor} for it.
    </>
  );
}

function Caught({ detail: { capture, exchanges } }: { detail: SchemaCaptureDetail }) {
  const [chosen, setChosen] = useState("");
  const shown = exchanges.find((e) => e.instance === chosen) ?? exchanges.at(-1);
  if (!shown) return capture.active ? <p className="text-quiet">Waiting for the next one.</p> : <p className="text-quiet">Nothing like it came. Try again when it is expected.</p>;
  return (
    <>
      <div role="group" aria-label={plural(exchanges.length, "captured exchange")} className="flex flex-wrap gap-1">
        {exchanges.map((e) => (
          <button
            key={e.instance}
            type="button"
            aria-pressed={e === shown}
            className={`h-7 rounded border px-2 font-mono text-xs ${e === shown ? "border-accent bg-accent-tint" : "border-line-strong hover:bg-hover"}`}
            onClick={() => setChosen(e.instance)}
          >
            {e.instance}
          </button>
        ))}
      </div>
      <CapturedPair key={shown.instance} captured={shown} />
    </>
  );
}
