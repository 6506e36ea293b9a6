import { keepPreviousData, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { call, read } from "@/api/client";
import { ApiProblem } from "@/api/problem";
import type { SchemaApiDetail, SchemaDeprecation, SchemaPlan, SchemaVersion } from "@/api/schema.gen";
import { useKeysetPages } from "@/hooks/keyset";

const everyMinute = 60_000;

export const useApis = (filter: string) =>
  useKeysetPages(["apis", "list", filter], (cursor, signal) => read("/api/v1/apis", { query: { filter, cursor, limit: 500 }, signal }));

export interface SeenApi {
  api: SchemaApiDetail;
  etag: string | undefined;
}

const readApi = async (api: string, signal?: AbortSignal): Promise<SeenApi> => {
  const { data, etag } = await call("get", "/api/v1/apis/{api}", { path: { api }, signal });
  return { api: data, etag };
};

export const useApi = (api: string) => useQuery({ queryKey: ["apis", "one", api], queryFn: ({ signal }) => readApi(api, signal), refetchInterval: everyMinute });

/** An API as it is now, or undefined where there is none of that name. */
export async function readApiIfAny(api: string, signal?: AbortSignal): Promise<SeenApi | undefined> {
  try {
    return await readApi(api, signal);
  } catch (error) {
    if (error instanceof ApiProblem && error.status === 404) return undefined;
    throw error;
  }
}

/** The operations of an API over the page's range. */
export const useApiTraffic = (api: string, minutes: number, live: boolean) =>
  useQuery({
    queryKey: ["traffic", "operations", api, minutes],
    queryFn: async ({ signal }) => (await read("/api/v1/traffic/summary", { query: { api, minutes }, signal })).operations.filter((o) => o.api === api),
    placeholderData: keepPreviousData,
    refetchInterval: live && 10_000,
  });

export const useReference = (api: string, version: string, enabled = true) =>
  useQuery({
    queryKey: ["apis", "reference", api, version],
    enabled: enabled && version !== "",
    queryFn: ({ signal }) => read("/api/v1/apis/{api}/versions/{version}/reference", { path: { api, version }, signal }),
    staleTime: everyMinute,
  });

export const useCallers = (api: string, version: string, since: string) =>
  useQuery({
    queryKey: ["apis", "callers", api, version, since],
    queryFn: async ({ signal }) => (await read("/api/v1/apis/{api}/versions/{version}/callers", { path: { api, version }, query: { since }, signal })).items,
    placeholderData: keepPreviousData,
  });

export const useFindings = (api: string) =>
  useKeysetPages(["findings", "api", api], (cursor, signal) => read("/api/v1/findings", { query: { filter: `api:${api}`, cursor, limit: 50 }, signal }));

export const useUndocumented = () =>
  useQuery({
    queryKey: ["traffic", "undocumented"],
    queryFn: ({ signal }) => read("/api/v1/traffic/undocumented", { query: { filter: "since:24h", limit: 100 }, signal }),
    refetchInterval: everyMinute / 4,
  });

export type DraftKind = "openapi" | "asyncapi";

export const useDraft = (filter: string, kind: DraftKind) =>
  useQuery({
    queryKey: ["traffic", "draft", filter, kind],
    queryFn: async ({ signal }) => (await read("/api/v1/traffic/undocumented/draft", { query: { filter, kind }, signal })) ?? "",
    staleTime: Infinity, // a person works on it: it does not change below their hands
  });

export const useStatus = () => useQuery({ queryKey: ["status"], queryFn: ({ signal }) => read("/api/v1/status", { signal }) });

export interface Document {
  name: string;
  text: string;
}

/**
 * What publishing a document would do. It is no part of the collection "apis", so that it does not change below the reader's hands:
 * if somebody else is faster, publishing is refused and says so.
 */
export const usePlan = (document: Document | undefined) =>
  useQuery({
    queryKey: ["publish-plan", document?.name, document?.text],
    enabled: document !== undefined,
    queryFn: async ({ signal }) => {
      const { name, text } = document!;
      const { data: plan } = await call("post", "/api/v1/apis", { query: { name, dryRun: true }, body: text, type: "application/yaml", signal });
      return { plan, now: await readApiIfAny(plan.api, signal) };
    },
    gcTime: 0,
    staleTime: Infinity,
  });

function useApiMutation<V, R>(mutationFn: (value: V) => Promise<R>) {
  const client = useQueryClient();
  return useMutation({ mutationFn, onSettled: () => client.invalidateQueries({ queryKey: ["apis"] }) });
}

const publish = async ({ name, text }: Document, ifMatch?: string): Promise<SchemaPlan> =>
  (await call("post", "/api/v1/apis", { query: { name }, body: text, type: "application/yaml", ifMatch })).data;

/** Publishes what was planned, and knows how to take it back. */
export const usePublish = () =>
  useApiMutation(async ({ document, plan, now }: { document: Document; plan: SchemaPlan; now: SeenApi | undefined }) => {
    // Nothing but its own document brings back what a replacement replaces.
    const before = plan.change === "replacement" ? await documentOf(plan.api, plan.version) : undefined;
    const done = await publish(document, now?.etag);
    return { plan: done, undo: () => takeBack(done, before, now) };
  });

export const documentOf = async (api: string, version: string): Promise<string> => {
  const { data } = await call("get", "/api/v1/apis/{api}/versions/{version}/document", { path: { api, version } });
  return typeof data === "string" ? data : JSON.stringify(data);
};

async function takeBack({ api, version, supersedes = [] }: SchemaPlan, before: string | undefined, now: SeenApi | undefined): Promise<unknown> {
  if (before !== undefined) return publish({ name: "undo", text: before });
  const [superseded] = supersedes;
  if (superseded === undefined) return retire({ api, version });
  const done = await restore({ api, version: superseded });
  const was = now?.api.versions.find((v) => v.version === superseded);
  return was?.state === "deprecated" ? deprecate({ api, version: superseded, sunset: was.sunset, successor: was.successor }) : done;
}

export interface VersionName {
  api: string;
  version: string;
  etag?: string;
}

const retire = ({ api, version, etag }: VersionName) => call("post", "/api/v1/apis/{api}/versions/{version}/retire", { path: { api, version }, ifMatch: etag });
const restore = ({ api, version, etag }: VersionName) => call("post", "/api/v1/apis/{api}/versions/{version}/restore", { path: { api, version }, ifMatch: etag });
const deprecate = ({ api, version, etag, ...body }: VersionName & SchemaDeprecation) =>
  call("post", "/api/v1/apis/{api}/versions/{version}/deprecate", { path: { api, version }, body, ifMatch: etag });

export const useRetire = () => useApiMutation(retire);
export const useRestore = () => useApiMutation(restore);
export const useDeprecate = () => useApiMutation(deprecate);

/** Puts a version back into the state that it had. */
export const useReturn = () =>
  useApiMutation(({ api, version, state, sunset, successor }: SchemaVersion): Promise<unknown> => {
    if (state === "deprecated") return deprecate({ api, version, sunset, successor });
    return state === "retired" ? retire({ api, version }) : restore({ api, version });
  });

export const apiHref = (api: string) => `/apis/${encodeURIComponent(api)}`;
