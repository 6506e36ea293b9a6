// Calls of the admin API, typed by its contract. It shows nothing and goes nowhere: what an answer means is up to the caller.
import { ApiProblem, unreachable } from "./problem";
import type { paths, SchemaProblem } from "./schema.gen";

type Method = "get" | "post" | "put" | "patch" | "delete";
type Operation<P extends keyof paths, M extends Method> = NonNullable<paths[P][M]>;
type Parameters<O, In extends string> = O extends { parameters: { [K in In]?: infer T } } ? NonNullable<T> : never;
type Content<T> = T extends { content: infer C } ? C[keyof C] : undefined;
type Body<O> = O extends { requestBody?: infer B } ? Content<NonNullable<B>> : undefined;
type Success<O> = O extends { responses: infer R } ? Content<R[Extract<keyof R, 200 | 201 | 202 | 204>]> : never;

export type PathsWith<M extends Method> = {
  [P in keyof paths]: paths[P] extends { [K in M]: { responses: unknown } } ? P : never;
}[keyof paths];

export interface CallOptions<O> {
  path?: Parameters<O, "path">;
  query?: Parameters<O, "query">;
  /** An object is sent as JSON; text and files as they are, with `type`. */
  body?: Body<O> | Blob;
  type?: string;
  /** Refuses the call (412) when the object is no longer the one with this ETag. */
  ifMatch?: string;
  /** Names one decision, so that sending it again after a lost answer does not make it twice. */
  idempotencyKey?: string;
  signal?: AbortSignal;
}

export interface Answer<T> {
  data: T;
  status: number;
  etag: string | undefined;
}

/** One call with its status and ETag. Throws an ApiProblem. */
export async function call<M extends Method, P extends PathsWith<M>>(
  method: M,
  path: P,
  options: CallOptions<Operation<P, M>> = {},
): Promise<Answer<Success<Operation<P, M>>>> {
  const headers = new Headers({ accept: "application/json, application/problem+json, */*;q=0.5" });
  let body: BodyInit | undefined;
  if (options.body instanceof Blob || typeof options.body === "string") {
    body = options.body;
    headers.set("content-type", options.type ?? "application/yaml");
  } else if (options.body !== undefined) {
    body = JSON.stringify(options.body);
    headers.set("content-type", options.type ?? "application/json");
  }
  if (options.ifMatch) headers.set("if-match", options.ifMatch);
  if (options.idempotencyKey) headers.set("idempotency-key", options.idempotencyKey);

  let response: Response;
  try {
    response = await fetch(address(path, options.path, options.query), {
      method: method.toUpperCase(),
      headers,
      body,
      signal: options.signal,
      credentials: "same-origin",
    });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw unreachable();
  }
  if (!response.ok) throw await refusal(response);
  const data = response.headers.get("content-type")?.includes("json") ? await response.json() : (await response.text()) || undefined;
  return { data, status: response.status, etag: response.headers.get("etag") ?? undefined };
}

/** What a GET answers. */
export async function read<P extends PathsWith<"get">>(path: P, options: CallOptions<Operation<P, "get">> = {}): Promise<Success<Operation<P, "get">>> {
  return (await call("get", path, options)).data;
}

/** The URL of a call; parameters that are undefined or empty are left out. */
export function address(path: string, inPath: object = {}, query: object = {}): string {
  const values = inPath as Record<string, string>;
  const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(values[name] ?? ""));
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== "") search.set(name, String(value));
  }
  return search.size > 0 ? `${filled}?${search}` : filled;
}

async function refusal(response: Response): Promise<ApiProblem> {
  const retryAfter = Number(response.headers.get("retry-after")) || undefined;
  if (response.headers.get("content-type")?.startsWith("application/problem+json")) {
    return new ApiProblem((await response.json()) as SchemaProblem, retryAfter);
  }
  if (response.status === 502 || response.status === 503 || response.status === 504) return unreachable();
  return new ApiProblem({ type: "about:blank", title: `The node answered ${response.status}`, status: response.status }, retryAfter);
}
