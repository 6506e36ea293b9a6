import type { SchemaUpstreamLoad } from "@/api/schema.gen";
import { formatCount } from "@/lib/format";

/** What was done besides plain calls, and what was refused; what never happened is left out. */
export function loadFacts(l: SchemaUpstreamLoad): [name: string, text: string | undefined][] {
  const said = (text: string, ...figures: number[]) => (figures.some((n) => n > 0) ? text : undefined);
  const n = formatCount;
  return [
    ["Limit", l.limit > 0 ? `${n(l.limit)} calls under way, ${n(l.underWay)} are` : undefined],
    ["Refused", said(`${n(l.shed.critical)} critical, ${n(l.shed.normal)} normal and ${n(l.shed.background)} background calls beyond the limit`, l.shed.critical, l.shed.normal, l.shed.background)],
    ["Retries", said(`${n(l.retries)}, ${n(l.retriesRefused)} left out beyond the budget`, l.retries, l.retriesRefused)],
    ["Hedges", said(`${n(l.hedges)}, ${n(l.hedgesWon)} answered first`, l.hedges)],
    ["Mirrors", said(`${n(l.mirroring)} under way, ${n(l.mirrorsDropped)} left out`, l.mirroring, l.mirrorsDropped)],
  ];
}
