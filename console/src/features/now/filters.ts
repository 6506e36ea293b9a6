import type { SchemaFinding, SchemaTimelineEntry, SchemaWarning } from "@/api/schema.gen";
import { formatFilter } from "@/lib/filter";

/** Devices that count as online: seen within five minutes, as the live figure counts them. */
export const onlineFilter = "since:5m";

/** The traffic that a finding counts. */
export function findingFilter(finding: SchemaFinding): string {
  const terms = { finding: finding.finding, api: finding.api, version: finding.version, operation: finding.operation };
  return formatFilter(Object.entries(terms).flatMap(([key, value]) => (value ? [{ key, value, negated: false }] : [])));
}

/** Where a warning is looked into: its API or upstream, its gateway, or the traffic that it is about. */
export function warningAddress(warning: SchemaWarning): [path: string, params?: Record<string, string>] | undefined {
  if (warning.api) return [`/apis/${encodeURIComponent(warning.api)}`];
  if (warning.upstream) return [`/upstreams/${encodeURIComponent(warning.upstream)}`];
  if (warning.code === "certificate" || warning.code === "secrets-key" || warning.code === "access-log" || warning.code === "mqtt-store") return ["/settings", { tab: "installation" }];
  if (warning.code === "undocumented-traffic") return ["/traffic", { filter: "finding:undocumented,unmatched" }];
  return undefined;
}

const pagesOfNouns: Record<string, string> = { api: "/apis", device: "/devices", app: "/apps", target: "/upstreams" };

/** Where an entry of the timeline leads: the traffic that shows it, or what was decided about. */
export function entryAddress(entry: SchemaTimelineEntry): [path: string, params?: Record<string, string>] | undefined {
  if (entry.filter) return ["/traffic", { filter: entry.filter }];
  const page = pagesOfNouns[entry.action?.split(".")[0] ?? ""];
  const name = entry.api ?? entry.target;
  if (page) return (entry.count ?? 1) > 1 || !name ? [page] : [`${page}/${encodeURIComponent(name)}`];
  return undefined;
}
