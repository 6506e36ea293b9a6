import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { call, read } from "@/api/client";
import { ApiProblem } from "@/api/problem";
import type { SchemaApp, SchemaAppUpdate, SchemaNewApp } from "@/api/schema.gen";
import { useKeysetPages } from "@/hooks/keyset";

export const appKeys = {
  all: ["apps"] as const,
  list: (filter: string) => ["apps", "list", filter] as const,
  one: (app: string) => ["apps", "one", app] as const,
};

export const useApps = (filter: string) =>
  useKeysetPages(appKeys.list(filter), (cursor, signal) => read("/api/v1/apps", { query: { filter, cursor, limit: 500 }, signal }));

export interface SeenApp {
  app: SchemaApp;
  etag: string | undefined;
}

const readApp = async (app: string, signal?: AbortSignal): Promise<SeenApp> => {
  const { data, etag } = await call("get", "/api/v1/apps/{app}", { path: { app }, signal });
  return { app: data, etag };
};

export const useApp = (app: string) => useQuery({ queryKey: appKeys.one(app), queryFn: ({ signal }) => readApp(app, signal), refetchInterval: 15_000 });

function useAppMutation<V, R>(mutationFn: (value: V) => Promise<R>) {
  const client = useQueryClient();
  return useMutation({ mutationFn, onSettled: () => client.invalidateQueries({ queryKey: appKeys.all }) });
}

export const useRevoke = () =>
  useAppMutation(({ app, reason }: { app: string; reason: string }) => call("post", "/api/v1/apps/{app}/revoke", { path: { app }, body: reason ? { reason } : {} }));

/** `decision` names the decision, so that a second attempt does not issue a second key. */
export const useIssueKey = () =>
  useAppMutation(async ({ app, keep, decision }: { app: string; keep: boolean; decision: string }) => {
    const { data } = await call("post", "/api/v1/apps/{app}/key", { path: { app }, query: { keep }, idempotencyKey: decision });
    return data.key;
  });

export const useAddApp = () =>
  useAppMutation(async ({ body, decision }: { body: SchemaNewApp; decision: string }) => (await call("post", "/api/v1/apps", { body, idempotencyKey: decision })).data);

/** Thrown where somebody else was faster: how it is now. */
export class ChangedApp extends Error {
  readonly now: SeenApp;
  readonly problem: ApiProblem;

  constructor(now: SeenApp, problem: ApiProblem) {
    super(problem.message);
    this.now = now;
    this.problem = problem;
  }
}

export const useUpdateApp = () =>
  useAppMutation(async ({ app, update, etag }: { app: string; update: SchemaAppUpdate; etag: string | undefined }) => {
    try {
      return await call("patch", "/api/v1/apps/{app}", { path: { app }, body: update, ifMatch: etag });
    } catch (error) {
      if (error instanceof ApiProblem && error.status === 412) throw new ChangedApp(await readApp(app), error);
      throw error;
    }
  });

export interface KnownScope {
  scope: string;
  /** The operations that ask for it, such as "getState of thermo". */
  operations: string[];
}

const mostApis = 40; // that are read for their scopes

/** The scopes that contracts ask for, with the operations that do. */
export const useKnownScopes = () =>
  useQuery({
    queryKey: ["apis", "scopes"],
    staleTime: 60_000,
    queryFn: async ({ signal }): Promise<KnownScope[]> => {
      const { items } = await read("/api/v1/apis", { query: { limit: mostApis }, signal });
      const apis = await Promise.all(items.filter((a) => !a.builtIn).map((a) => read("/api/v1/apis/{api}", { path: { api: a.name }, signal })));
      const found = new Map<string, Set<string>>();
      for (const { name, operations } of apis) {
        for (const { id, scopes = [] } of operations) {
          for (const scope of scopes) found.set(scope, (found.get(scope) ?? new Set()).add(`${id} of ${name}`));
        }
      }
      return [...found].map(([scope, operations]) => ({ scope, operations: [...operations] })).sort((a, b) => a.scope.localeCompare(b.scope));
    },
  });
