import { classes } from "./class";

export type SeriesColour = "http" | "websocket" | "sse" | "mqtt" | "coap" | "accent" | "good" | "notice" | "warning" | "bad" | "neutral";

// Tailwind finds only whole names.
const fills: Record<SeriesColour, string> = {
  http: "fill-http stroke-http", websocket: "fill-websocket stroke-websocket", sse: "fill-sse stroke-sse", mqtt: "fill-mqtt stroke-mqtt",
  coap: "fill-coap stroke-coap", accent: "fill-accent stroke-accent", good: "fill-good stroke-good", notice: "fill-notice stroke-notice",
  warning: "fill-warning stroke-warning", bad: "fill-bad stroke-bad", neutral: "fill-icon stroke-icon",
};

/**
 * A small picture of how something went, oldest at the left: series stand on each other. It has no axes; the number beside it says
 * how much. `points` is how many fit; fewer begin at the right, so that the picture does not stretch while it fills.
 */
export function Sparkline({ series, label, points, className = "h-8 w-28" }: {
  series: readonly { colour: SeriesColour; values: readonly number[] }[];
  label: string;
  points?: number;
  className?: string;
}) {
  const count = Math.max(points ?? 0, 2, ...series.map((s) => s.values.length));
  const sums = new Array<number>(count).fill(0);
  const layers = series.map(({ colour, values }) => {
    const from = count - values.length;
    const base = sums.slice(from);
    const top = values.map((v, i) => (sums[from + i]! += v));
    return { colour, from, base, top };
  });
  const most = Math.max(...sums, 1e-9);
  const y = (value: number) => (31 - (29 * value) / most).toFixed(1);
  return (
    <svg role="img" aria-label={label} viewBox={`0 0 ${count - 1} 32`} preserveAspectRatio="none" className={classes("block overflow-visible", className)}>
      {layers.map(({ colour, from, base, top }) => {
        if (top.length === 0) return null;
        const line = top.map((v, i) => `${from + i},${y(v)}`).join(" L");
        const back = base.map((v, i) => `${from + i},${y(v)}`).reverse().join(" L");
        return (
          <g key={colour} className={fills[colour]}>
            <path d={`M${line} L${back} Z`} fillOpacity={0.18} stroke="none" />
            <path d={`M${line}`} fill="none" strokeWidth={1.5} strokeLinejoin="round" vectorEffect="non-scaling-stroke" />
          </g>
        );
      })}
    </svg>
  );
}
