import { keepPreviousData, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { call, read } from "@/api/client";
import type { SchemaExchangeDetail, SchemaFinding, SchemaNewCapture, SchemaTrafficRecord, SchemaUndocumentedRoute } from "@/api/schema.gen";
import { useKeysetPages } from "@/hooks/keyset";
import { formatFilter, type Term } from "@/lib/filter";

export const trafficKeys = {
  exchange: (instance: string) => ["exchange", instance] as const,
  captures: ["captures"] as const,
  capture: (id: string) => ["captures", id] as const,
};

/** One exchange; what the list knows of it shows at once. */
export const useExchange = (instance: string, known?: SchemaTrafficRecord) =>
  useQuery<SchemaExchangeDetail>({
    queryKey: trafficKeys.exchange(instance),
    queryFn: ({ signal }) => read("/api/v1/traffic/exchanges/{instance}", { path: { instance }, signal }),
    placeholderData: known && { exchange: known },
    staleTime: Infinity, // what happened does not change
  });

/** What was refused most in the last minute. */
export const useRefusals = () =>
  useQuery({
    queryKey: ["traffic", "refusals"],
    queryFn: ({ signal }) => read("/api/v1/traffic/summary", { query: { seconds: 60, minutes: 1 }, signal }),
    refetchInterval: 5000,
    placeholderData: keepPreviousData,
  });

export const useOperations = (minutes: number, live: boolean) =>
  useQuery({
    queryKey: ["traffic", "operations", minutes],
    queryFn: ({ signal }) => read("/api/v1/traffic/summary", { query: { minutes }, signal }),
    refetchInterval: live && 10_000,
    placeholderData: keepPreviousData,
  });

export const useUndocumented = (filter: string) =>
  useKeysetPages(["traffic", "undocumented", filter], (cursor, signal) => read("/api/v1/traffic/undocumented", { query: { filter, cursor, limit: 200 }, signal }));

export const useFindings = (filter: string) =>
  useKeysetPages(["findings", "list", filter], (cursor, signal) => read("/api/v1/findings", { query: { filter, cursor, limit: 50 }, signal }));

export function useStartCapture() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: async (body: SchemaNewCapture) => (await call("post", "/api/v1/captures", { body })).data,
    onSuccess: () => client.invalidateQueries({ queryKey: trafficKeys.captures }),
  });
}

export function useEndCapture() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (capture: string) => call("delete", "/api/v1/captures/{capture}", { path: { capture } }),
    onSuccess: () => client.invalidateQueries({ queryKey: trafficKeys.captures }),
  });
}

/** A capture with what it caught so far; read each second while it goes on. */
export const useCapture = (capture: string) =>
  useQuery({
    queryKey: trafficKeys.capture(capture),
    enabled: capture !== "",
    queryFn: ({ signal }) => read("/api/v1/captures/{capture}", { path: { capture }, signal }),
    refetchInterval: (query) => (query.state.data?.capture.active ? 1000 : false),
  });

const terms = (values: Record<string, string | undefined>): Term[] =>
  Object.entries(values).flatMap(([key, value]) => (value ? [{ key, value, negated: false }] : []));

/** A filter of these values; those that are absent are left out. */
export const filterOf = (values: Record<string, string | undefined>) => formatFilter(terms(values));

export const findingFilter = ({ finding, api, version, operation }: SchemaFinding) => filterOf({ finding, api, version, operation });

/** A word that is searched as it is, whatever it holds. */
const word = (text: string) => `"${text.replace(/[\\"]/g, "\\$&")}"`;

/** The traffic on an undocumented route. */
export const routeFilter = ({ protocol, route }: SchemaUndocumentedRoute) => `protocol:${protocol} finding:undocumented,unmatched ${word(route)}`;

/** The routes that a draft of a contract begins with. */
export const draftFilter = ({ protocol, route }: SchemaUndocumentedRoute) => `protocol:${protocol} ${word(route)}`;
