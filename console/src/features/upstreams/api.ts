import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { call, read } from "@/api/client";
import type { SchemaNewTarget } from "@/api/schema.gen";
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

interface TargetName {
  upstream: string;
  address: string;
}

const inPath = ({ upstream, address }: TargetName) => ({ upstream, target: address });

function useTargetMutation<V, R>(mutationFn: (value: V) => Promise<R>) {
  const client = useQueryClient();
  return useMutation({ mutationFn, onSettled: () => client.invalidateQueries({ queryKey: ["upstreams"] }) });
}

export const useRegister = () =>
  useTargetMutation(async ({ body, ...name }: TargetName & { body: SchemaNewTarget }) => {
    const { data } = await call("put", "/api/v1/upstreams/{upstream}/targets/{target}", { path: inPath(name), body });
    return data;
  });

export const useRemove = () =>
  useTargetMutation((name: TargetName) => call("delete", "/api/v1/upstreams/{upstream}/targets/{target}", { path: inPath(name) }));
