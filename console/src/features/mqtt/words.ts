// What the pages of MQTT say in words, without drawing it.
import type { SchemaCapturedMessage, SchemaMqttSession } from "@/api/schema.gen";
import { formatSpan } from "@/lib/format";

const neverExpires = 0xffffffff; // MQTT 5 section 3.1.2.11.2

/** How long a session outlives its connection. */
export function lasting({ expirySeconds }: Pick<SchemaMqttSession, "expirySeconds">): string {
  if (expirySeconds === 0) return "as long as its connection";
  if (expirySeconds === neverExpires) return "for ever";
  return `${formatSpan(expirySeconds * 1000)} after its connection`;
}

/** What a message carries, as text: JSON over several lines, text as it is, other bytes as hex. */
export function bodyText({ body, json }: Pick<SchemaCapturedMessage, "body" | "json">): string {
  const bytes = Uint8Array.from(atob(body), (c) => c.charCodeAt(0));
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return json ? JSON.stringify(JSON.parse(text), null, 2) : text;
  } catch {
    return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
  }
}

/** A value of the filter, in quotes where it needs them. */
export const quoted = (value: string) => (/^[\w./+#-]+$/.test(value) ? value : `"${value.replace(/[\\"]/g, "\\$&")}"`);

/** Why a topic filter is none; empty where it is one (MQTT 5 section 4.7.1). */
export function wrongFilter(text: string): string {
  const levels = text.split("/");
  for (const [i, level] of levels.entries()) {
    if (level.includes("#") && (level !== "#" || i < levels.length - 1)) return "# stands alone and last, such as plant/#.";
    if (level.includes("+") && level !== "+") return "+ stands for one whole level, such as plant/+/state.";
  }
  if (text.startsWith("$share/")) return "Shared subscriptions cannot be watched: write the filter without $share.";
  return "";
}
