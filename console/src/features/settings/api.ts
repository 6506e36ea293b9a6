import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { call, read } from "@/api/client";
import type { SchemaNewOperator, SchemaNewToken, SchemaOperator, SchemaOperatorUpdate } from "@/api/schema.gen";
import { useKeysetPages } from "@/hooks/keyset";

export const useOperators = () =>
  useKeysetPages(["operators", "list"], (cursor, signal) => read("/api/v1/operators", { query: { cursor, limit: 200 }, signal }));

export const useTokens = () => useKeysetPages(["tokens", "list"], (cursor, signal) => read("/api/v1/tokens", { query: { cursor, limit: 200 }, signal }));

export const useSessions = () => useKeysetPages(["sessions", "list"], (cursor, signal) => read("/api/v1/sessions", { query: { cursor, limit: 200 }, signal }));

export const useAudit = (filter: string) =>
  useKeysetPages(["audit", filter], (cursor, signal) => read("/api/v1/audit", { query: { filter, cursor, limit: 50 }, signal }));

export const useStatus = () => useQuery({ queryKey: ["status"], queryFn: ({ signal }) => read("/api/v1/status", { signal }), refetchInterval: 10_000 });

/** The contract of the admin API, as this program serves it. */
export const useOwnReference = (version: string | undefined) =>
  useQuery({
    queryKey: ["apis", "reference", "fieldgate", version],
    enabled: version !== undefined,
    queryFn: ({ signal }) => read("/api/v1/apis/{api}/versions/{version}/reference", { path: { api: "fieldgate", version: version! }, signal }),
    staleTime: Infinity,
  });

export const useOwnVersion = () =>
  useQuery({
    queryKey: ["apis", "own-version"],
    queryFn: async ({ signal }) => (await read("/api/v1/apis/{api}", { path: { api: "fieldgate" }, signal })).versions[0]!.version,
    staleTime: Infinity,
  });

function useAccessMutation<V, R>(mutationFn: (value: V) => Promise<R>, ...collections: string[]) {
  const client = useQueryClient();
  return useMutation({
    mutationFn,
    onSettled: () => Promise.all(collections.map((c) => client.invalidateQueries({ queryKey: [c] }))),
  });
}

/** `decision` names the decision, so that a second attempt does not make a second operator. */
export const useAddOperator = () =>
  useAccessMutation(async ({ body, decision }: { body: SchemaNewOperator; decision: string }) => (await call("post", "/api/v1/operators", { body, idempotencyKey: decision })).data, "operators");

export const useInvite = () =>
  useAccessMutation(async (operator: string) => (await call("post", "/api/v1/operators/{operator}/invitation", { path: { operator } })).data, "operators", "sessions", "tokens");

export const useUpdateOperator = () =>
  useAccessMutation(({ operator, update }: { operator: SchemaOperator; update: SchemaOperatorUpdate }) =>
    call("patch", "/api/v1/operators/{operator}", { path: { operator: operator.name }, body: update }), "operators", "sessions", "session");

export const useRemoveOperator = () =>
  useAccessMutation((operator: string) => call("delete", "/api/v1/operators/{operator}", { path: { operator } }), "operators", "sessions", "tokens");

export const useAddToken = () =>
  useAccessMutation(async ({ body, decision }: { body: SchemaNewToken; decision: string }) => (await call("post", "/api/v1/tokens", { body, idempotencyKey: decision })).data, "tokens");

export const useRevokeToken = () => useAccessMutation((token: string) => call("delete", "/api/v1/tokens/{token}", { path: { token } }), "tokens");

export const useEndSession = () => useAccessMutation((session: string) => call("delete", "/api/v1/sessions/{session}", { path: { session } }), "sessions", "session");
