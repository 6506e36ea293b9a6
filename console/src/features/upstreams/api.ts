import { useQuery } from "@tanstack/react-query";
import { read } from "@/api/client";
import { useKeysetPages } from "@/hooks/keyset";

export const upstreamKeys = {
  list: (filter: string) => ["upstreams", "list", filter] as const,
  one: (upstream: string) => ["upstreams", "one", upstream] as const,
  count: ["upstreams", "count"] as const,
};

export const useUpstreams = (filter: string) =>
  useKeysetPages(upstreamKeys.list(filter), (cursor, signal) => read("/api/v1/upstreams", { query: { filter, cursor, limit: 200 }, signal }));

/** Health arrives by events; calls under way and latency are asked for as often as gateways tell them. */
export const useUpstream = (upstream: string) =>
  useQuery({
    queryKey: upstreamKeys.one(upstream),
    queryFn: ({ signal }) => read("/api/v1/upstreams/{upstream}", { path: { upstream }, signal }),
    refetchInterval: 5000,
  });

export const useAllUpstreams = () =>
  useQuery({ queryKey: upstreamKeys.count, queryFn: ({ signal }) => read("/api/v1/upstreams", { query: { limit: 1000 }, signal }), refetchInterval: 15_000 });
