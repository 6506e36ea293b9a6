import { keepPreviousData, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { call, read } from "@/api/client";
import type { SchemaListener, SchemaOperation, SchemaTrafficSeries } from "@/api/schema.gen";
import { useKeysetPages } from "@/hooks/keyset";

const everyMinute = 60_000;

/** The open findings; more than these are only said to be there. */
export const useFindings = () =>
  useQuery({
    queryKey: ["findings", "now"],
    queryFn: ({ signal }) => read("/api/v1/findings", { query: { limit: 100 }, signal }),
    refetchInterval: everyMinute / 2,
  });

export const useTimeline = (since: string) =>
  useKeysetPages(["timeline", since], (cursor, signal) => read("/api/v1/timeline", { query: { since, cursor, limit: 15 }, signal }));

/** Exchanges over the last minutes. A young installation has them in the last points only: then the last hour says more. */
export const useSeries = (minutes: number, live: boolean) =>
  useQuery({
    queryKey: ["traffic", "series", minutes],
    queryFn: async ({ signal }) => {
      const series = await read("/api/v1/traffic/series", { query: { minutes }, signal });
      return series.spanSeconds > 60 && isYoung(series) ? read("/api/v1/traffic/series", { query: { minutes: 60 }, signal }) : series;
    },
    placeholderData: keepPreviousData,
    refetchInterval: live && everyMinute / 2,
  });

function isYoung(series: SchemaTrafficSeries): boolean {
  return series.protocols.every((p) => [p.passed, p.refused, p.failed].every((values) => values.slice(0, -2).every((v) => v === 0)));
}

export interface FirstDevice {
  device: string;
  token: string;
}

/** Registers the device of the first command. */
export function useFirstDevice() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: async (): Promise<FirstDevice> => {
      const id = `first-${crypto.randomUUID().slice(0, 4)}`;
      const { data } = await call("post", "/api/v1/devices", { body: { id }, idempotencyKey: crypto.randomUUID() });
      return { device: data.device.id, token: data.token };
    },
    onSuccess: () => client.invalidateQueries({ queryKey: ["devices"] }),
  });
}

/** An operation that can be tried over HTTP: one that only reads when there is one. */
export const useFirstOperation = () =>
  useQuery({
    queryKey: ["apis", "first-operation"],
    queryFn: async ({ signal }): Promise<SchemaOperation | null> => {
      const { items } = await read("/api/v1/apis", { query: { filter: "protocol:http state:active" }, signal });
      const api = items.find((a) => !a.builtIn);
      if (!api) return null;
      const { operations } = await read("/api/v1/apis/{api}", { path: { api: api.name }, signal });
      return operations.find((o) => o.http?.startsWith("GET ")) ?? operations.find((o) => o.http && !o.passThrough) ?? null;
    },
  });

/** The command that makes the first exchange. */
export function firstCommand(listeners: readonly SchemaListener[], operation: SchemaOperation | null, { device, token }: FirstDevice, host: string): string {
  const [method, template] = (operation?.http ?? "GET /").split(" ") as [string, string];
  const path = template.replace(/\{[^}]+\}/g, device);
  const address = listeners.find((l) => l.name === "http")?.address ?? `${host}:8080`;
  const reachable = address.replace(/^(?:\[::\]|0\.0\.0\.0)?(?=:\d+$)/, host);
  const body = method === "GET" ? "" : `-X ${method} -H 'Content-Type: application/json' -d '{}' `;
  return `curl -i ${body}-H 'Authorization: Bearer ${token}' http://${reachable}${path}`;
}
