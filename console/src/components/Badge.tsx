import { CircleAlert, CircleCheck, CircleDashed, Info, OctagonAlert, type LucideIcon } from "lucide-react";
import type { ReactNode } from "react";
import type { SchemaProtocol } from "@/api/schema.gen";
import { classes } from "./class";

export type Tone = "good" | "notice" | "warning" | "bad" | "neutral";

const tones: Record<Tone, { className: string; text: string; icon: LucideIcon }> = {
  good: { className: "bg-good-tint text-good", text: "text-good", icon: CircleCheck },
  notice: { className: "bg-notice-tint text-notice", text: "text-notice", icon: Info },
  warning: { className: "bg-warning-tint text-warning", text: "text-warning", icon: CircleAlert },
  bad: { className: "bg-bad-tint text-bad", text: "text-bad", icon: OctagonAlert },
  neutral: { className: "bg-sunken text-soft", text: "text-soft", icon: CircleDashed },
};

/** The state of something in one word; its colour never stands alone. */
export function Badge({ tone = "neutral", icon, children }: { tone?: Tone; icon?: LucideIcon | false; children: ReactNode }) {
  const { className, icon: own } = tones[tone];
  const Icon = icon === undefined ? own : icon;
  return (
    <span className={classes("inline-flex h-5 items-center gap-1 rounded-sm px-1.5 text-xs font-medium whitespace-nowrap", className)}>
      {Icon && <Icon size={12} aria-hidden />}
      {children}
    </span>
  );
}

/** The icon of a state, in its colour. A word stands beside it. */
export function ToneIcon({ tone, size = 16 }: { tone: Tone; size?: number }) {
  const { icon: Icon, text } = tones[tone];
  return <Icon size={size} className={classes("shrink-0", text)} aria-hidden />;
}

export const protocols: readonly SchemaProtocol[] = ["http", "websocket", "sse", "mqtt", "coap"];

export const protocolNames: Record<SchemaProtocol, string> = { http: "HTTP", websocket: "WebSocket", sse: "SSE", mqtt: "MQTT", coap: "CoAP" };

// Tailwind finds only whole names.
const protocolClasses: Record<SchemaProtocol, { text: string; dot: string }> = {
  http: { text: "text-http", dot: "bg-http" },
  websocket: { text: "text-websocket", dot: "bg-websocket" },
  sse: { text: "text-sse", dot: "bg-sse" },
  mqtt: { text: "text-mqtt", dot: "bg-mqtt" },
  coap: { text: "text-coap", dot: "bg-coap" },
};

export function ProtocolBadge({ protocol }: { protocol: SchemaProtocol }) {
  const { text, dot } = protocolClasses[protocol];
  return (
    <span className={classes("inline-flex items-center gap-1.5 text-xs font-medium whitespace-nowrap", text)}>
      <span className={classes("size-2 rounded-[2px]", dot)} aria-hidden />
      {protocolNames[protocol]}
    </span>
  );
}

const deviceStates = { active: "good", quarantined: "warning", revoked: "neutral" } as const;
const lifecycles = { active: "good", deprecated: "warning", superseded: "neutral", retired: "neutral" } as const;
const states: Record<string, Tone> = { ...deviceStates, ...lifecycles, expired: "neutral", disabled: "neutral", invited: "notice" };

/** The state of a device, app, operator, token or API version, as the API names it. */
export function StateBadge({ state }: { state: string }) {
  return <Badge tone={states[state] ?? "neutral"}>{state}</Badge>;
}
