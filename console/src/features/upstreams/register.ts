// What one writes to register an address of a service, and the commands that do the same.
import type { SchemaNewTarget, SchemaTarget } from "@/api/schema.gen";

/** The fields of the dialog, as they are written. */
export interface TargetForm {
  address: string;
  zone: string;
  priority: string;
  weight: string;
  ttl: string;
}

export const emptyForm: TargetForm = { address: "", zone: "", priority: "0", weight: "1", ttl: "1h" };

/** What is registered, as one would write it. */
export const formOf = ({ address, zone = "", priority, weight, ttlSeconds }: SchemaTarget): TargetForm =>
  ({ address, zone, priority: String(priority), weight: String(weight), ttl: formatTtl(ttlSeconds) });

export interface ReadTarget {
  address: string;
  body: SchemaNewTarget;
  /** What is wrong with each field; nothing where all can be sent. */
  wrong: Partial<Record<keyof TargetForm, string>>;
}

/** Reads the fields with the bounds of the admin API. */
export function readTarget(form: TargetForm): ReadTarget {
  const address = form.address.trim();
  const zone = form.zone.trim();
  const [priority, weight, ttlSeconds] = [whole(form.priority), whole(form.weight), parseTtl(form.ttl)];
  const wrong: ReadTarget["wrong"] = {};
  if (!isAddress(address)) wrong.address = "Write http://HOST:PORT or https://HOST:PORT, without a path.";
  if (new TextEncoder().encode(zone).length > 64) wrong.zone = "At most 64 bytes.";
  if (!(priority <= 15)) wrong.priority = "A whole number from 0 to 15.";
  if (!(weight >= 1 && weight <= 1000)) wrong.weight = "A whole number from 1 to 1,000.";
  if (!(ttlSeconds >= 10 && ttlSeconds <= 86_400)) wrong.ttl = "A time from 10s to 24h, such as 30s, 10m or 1h30m.";
  return { address, body: { ...(zone && { zone }), priority, weight, ttlSeconds }, wrong };
}

const whole = (text: string) => (/^\d{1,9}$/.test(text.trim()) ? Number(text) : NaN);

function isAddress(text: string): boolean {
  if (!/^https?:\/\/[A-Za-z0-9._:[\]-]+\/?$/.test(text) || text.length > 300) return false;
  try {
    return Number(new URL(text).port || 1) > 0;
  } catch {
    return false;
  }
}

/** Seconds of 30s, 10m or 1h30m; NaN where it is none. */
function parseTtl(text: string): number {
  const found = /^(?=\d)(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?$/.exec(text.trim());
  if (!found) return NaN;
  const [, h, m, s] = found;
  return Number(h ?? 0) * 3600 + Number(m ?? 0) * 60 + Number(s ?? 0);
}

function formatTtl(seconds: number): string {
  const parts = [[Math.floor(seconds / 3600), "h"], [Math.floor(seconds / 60) % 60, "m"], [seconds % 60, "s"]] as const;
  return parts.map(([n, unit]) => (n > 0 ? `${n}${unit}` : "")).join("");
}

/** The command that registers the same. */
export function registerCommand(upstream: string, form: TargetForm): string {
  const { address, body, wrong } = readTarget(form);
  return [
    `fieldgate upstream register ${upstream} ${wrong.address ? "http://HOST:PORT" : quoted(address)}`,
    body.zone && !wrong.zone && `--zone ${quoted(body.zone)}`,
    body.priority !== 0 && !wrong.priority && `--priority ${body.priority}`,
    body.weight !== 1 && !wrong.weight && `--weight ${body.weight}`,
    !wrong.ttl && `--ttl ${form.ttl.trim()}`,
  ].filter(Boolean).join(" ");
}

export const removeCommand = (upstream: string, address: string) => `fieldgate upstream remove ${upstream} ${quoted(address)}`;

/** For the shell; most addresses and zones need nothing. */
const quoted = (text: string) => (/^[\w.:/-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** What is not as it is anyway: "zone hall-3, priority 1, weight 3". */
export function placeOf({ zone, priority, weight }: { zone?: string; priority: number; weight: number }): string {
  return [zone && `zone ${zone}`, priority !== 0 && `priority ${priority}`, weight > 1 && `weight ${weight}`].filter(Boolean).join(", ");
}
