import type { SchemaUpstream } from "@/api/schema.gen";
import type { Tone } from "@/components/Badge";

/** How an upstream is, in one word. */
export function upstreamState(u: SchemaUpstream): { tone: Tone; word: string } {
  if (u.circuit === "open" || u.circuit === "half-open") return { tone: "bad", word: "refusing" };
  if (u.healthy === 0 && u.unhealthy > 0) return { tone: "bad", word: "down" };
  if (u.unhealthy > 0 || u.problem) return { tone: "warning", word: "degraded" };
  if (u.gateways.length === 0) return { tone: "warning", word: "not used" };
  if (u.healthy === 0) return { tone: "warning", word: "no address" };
  return { tone: "good", word: "healthy" };
}
