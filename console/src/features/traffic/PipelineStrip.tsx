import { Ban, Check, Minus } from "lucide-react";
import type { SchemaTrafficRecord } from "@/api/schema.gen";
import { classes } from "@/components/class";
import { formatDuration } from "@/lib/format";
import { problemWords, stageQuestion } from "@/lib/words";
import { layOut, measured, stageTime, type Block } from "./strip";

const hatched = "bg-[repeating-linear-gradient(135deg,var(--grey-7)_0_1px,transparent_1px_6px)]";

/**
 * The life of an exchange: its stages as blocks, as wide as they took, coloured by their verdict, and under the one that decided by
 * which rule. On a narrow screen the stages stand below each other, with bars.
 */
export function PipelineStrip({ exchange }: { exchange: SchemaTrafficRecord }) {
  const blocks = layOut(exchange);
  if (blocks.length === 0) {
    return <p className="text-soft">The gateway did not tell which stages ran{exchange.problem ? "; it was refused before the first of them" : ""}.</p>;
  }
  const sum = measured(blocks);
  const decided = blocks.find((b) => b.verdict === "decided");
  const failed = exchange.status >= 500;
  return (
    <figure aria-label="Stages of the exchange" className="@container flex flex-col gap-2">
      <ol className="hidden h-14 gap-px @lg:flex">
        {blocks.map((block) => <StripBlock key={block.stage} block={block} failed={failed} />)}
      </ol>
      {decided && <Rule block={decided} exchange={exchange} failed={failed} />}
      <ol className="flex flex-col gap-1 @lg:hidden">
        {blocks.map((block) => (
          <li key={block.stage} className="flex flex-col gap-1">
            <StripRow block={block} longest={Math.max(...blocks.map((b) => b.micros ?? 0), 0.1)} failed={failed} />
            {block === decided && <RuleText exchange={exchange} className="pl-[82px]" failed={failed} />}
          </li>
        ))}
      </ol>
      <figcaption className="flex flex-wrap gap-x-4 gap-y-1 text-xs text-quiet tabular">
        {sum > 0 ? (
          <span>
            {stageTime(sum)} in the stages, {formatDuration(exchange.durationMicros)} from the first byte to the answer
            {exchange.upstreamMicros ? `, ${formatDuration(exchange.upstreamMicros)} of it waiting for the service` : ""}
          </span>
        ) : (
          <span>{formatDuration(exchange.durationMicros)} in all. At this rate of traffic stages are measured in a sample of the exchanges, not in this one.</span>
        )}
        {blocks.some((b) => b.verdict !== "skipped" && b.micros === undefined) && sum > 0 && <Key className={classes("border border-control", hatched)} text="ran, not measured" />}
        {blocks.some((b) => b.verdict === "skipped") && <Key className="border border-dashed border-control" text="did not run" />}
      </figcaption>
    </figure>
  );
}

const Key = ({ className, text }: { className: string; text: string }) => (
  <span className="inline-flex items-center gap-1.5">
    <span className={classes("inline-block h-2.5 w-4 rounded-[2px]", className)} aria-hidden />
    {text}
  </span>
);

function look({ verdict, micros }: Block, failed: boolean) {
  if (verdict === "skipped") return { box: "border border-dashed border-control text-quiet", bar: "", icon: Minus, word: "did not run" };
  const unmeasured = micros === undefined && hatched;
  if (verdict === "decided") {
    return failed
      ? { box: classes("bg-bad-tint text-bad border-bad border-b-3", unmeasured), bar: "bg-bad", icon: Ban, word: "failed here" }
      : { box: classes("bg-warning-tint text-warning border-warning border-b-3", unmeasured), bar: "bg-warning", icon: Ban, word: "refused it" };
  }
  return { box: classes("bg-good-tint text-good border-good border-b-3", unmeasured), bar: "bg-good", icon: Check, word: "passed" };
}

function titleOf(block: Block, word: string): string {
  const time = block.micros === undefined ? "" : `, ${block.micros.toLocaleString("en-GB")} µs`;
  return `${block.stage} ${word}${time}: ${stageQuestion(block.stage)}`;
}

function StripBlock({ block, failed }: { block: Block; failed: boolean }) {
  const { box, icon: Icon, word } = look(block, failed);
  return (
    <li
      title={titleOf(block, word)}
      className={classes("flex min-w-0 flex-col justify-center gap-0.5 overflow-hidden px-1.5 first:rounded-l @3xl:px-2 last:rounded-r", box)}
      style={{ width: `${block.width * 100}%` }}
    >
      <span className="text-xs font-medium whitespace-nowrap">
        {block.stage} <span className="sr-only">{word}</span>
      </span>
      <span className="flex items-center gap-1 text-2xs whitespace-nowrap tabular">
        <Icon size={12} className="shrink-0" aria-hidden />
        {block.micros !== undefined && <span className="text-soft">{stageTime(block.micros)}</span>}
      </span>
    </li>
  );
}

function StripRow({ block, longest, failed }: { block: Block; longest: number; failed: boolean }) {
  const { bar, icon: Icon, word, box } = look(block, failed);
  return (
    <div className="flex h-6 items-center gap-2 text-xs" title={titleOf(block, word)}>
      <span className={classes("flex w-[74px] items-center gap-1.5 font-medium", box.split(" ").find((c) => c.startsWith("text-")))}>
        <Icon size={12} className="shrink-0" aria-hidden /> {block.stage} <span className="sr-only">{word}</span>
      </span>
      <span className="h-3 min-w-0 flex-1">
        {block.verdict !== "skipped" && (
          <span
            className={classes("block h-3 rounded-[2px]", block.micros === undefined ? hatched : bar)}
            style={{ width: block.micros === undefined ? "100%" : `max(3px, ${(100 * block.micros) / longest}%)` }}
          />
        )}
      </span>
      <span className="w-[72px] text-right text-soft tabular">
        {block.verdict === "skipped" ? <span className="text-quiet">did not run</span> : block.micros === undefined ? "" : stageTime(block.micros)}
      </span>
    </div>
  );
}

/** The rule, under the block that decided; near the right end it stands left of the block's middle. */
function Rule({ block, exchange, failed }: { block: Block; exchange: SchemaTrafficRecord; failed: boolean }) {
  const middle = block.start + block.width / 2;
  const right = middle > 0.55;
  return (
    <div className="hidden flex-col @lg:flex" style={right ? { paddingRight: `${(1 - middle) * 100}%` } : { paddingLeft: `${middle * 100}%` }}>
      <span className={classes("-mt-2 h-2 w-px", failed ? "bg-bad" : "bg-warning", right && "self-end")} aria-hidden />
      <RuleText exchange={exchange} className={right ? "self-end text-right" : "-ml-2"} failed={failed} />
    </div>
  );
}

function RuleText({ exchange, className, failed }: { exchange: SchemaTrafficRecord; className: string; failed: boolean }) {
  const words = exchange.problem ? problemWords(exchange.problem).title : "So answered the service behind the API";
  return (
    <p className={classes("max-w-full text-sm", className)}>
      <span className={classes("font-medium", failed ? "text-bad" : "text-warning")}>{words}</span>
      {exchange.rule && exchange.rule !== words && (
        <span className="block">
          <code className="break-words">{exchange.rule}</code>
        </span>
      )}
    </p>
  );
}
