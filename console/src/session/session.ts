// Who is signed in. The cookie is out of reach of scripts, so only the node knows; `session` is null where it says nobody.
import { useMutation, useQuery, useQueryClient, type QueryClient } from "@tanstack/react-query";
import { createContext, useContext } from "react";
import { call, read } from "@/api/client";
import { ApiProblem } from "@/api/problem";
import type { SchemaClaim, SchemaNewPassword, SchemaScope, SchemaSession, SchemaSignIn } from "@/api/schema.gen";

export const sessionKeys = { session: ["session"] as const, setup: ["setup"] as const };

export function useSessionQuery({ enabled = true } = {}) {
  return useQuery<SchemaSession | null>({
    queryKey: sessionKeys.session,
    queryFn: async ({ signal, client }) => {
      try {
        // Asked first, because browsers report a 401 as an error even where it is the answer.
        const { signedIn } = await read("/api/v1/setup", { signal });
        if (signedIn) return await read("/api/v1/session", { signal });
      } catch (error) {
        if (!(error instanceof ApiProblem && error.status === 401)) throw error;
      }
      // While one session takes another's place, the old one may be over before the new one is known here.
      const changing = client.isMutating({ predicate: (mutation) => mutation.meta?.signsIn === true }) > 0;
      return changing ? (client.getQueryData<SchemaSession>(sessionKeys.session) ?? null) : null;
    },
    enabled,
    staleTime: 60_000,
  });
}

export const SessionContext = createContext<SchemaSession | undefined>(undefined);

/** The session inside the frame, where there always is one. */
export function useSession(): SchemaSession {
  const session = useContext(SessionContext);
  if (!session) throw new Error("useSession outside of a session");
  return session;
}

/** Whether the signed-in operator may do what needs this scope. */
export function useMay(scope: SchemaScope): boolean {
  return useSession().scopes.includes(scope);
}

/** A request found no session: ask whether there still is one, and if not, the sign-in page shows. */
export function doubtSession(client: QueryClient) {
  void client.refetchQueries({ queryKey: sessionKeys.session }, { cancelRefetch: false });
}

/** Forgets what a session read. */
export function forgetSession(client: QueryClient) {
  client.removeQueries({ predicate: (query) => query.queryKey[0] !== "session" && query.queryKey[0] !== "setup" });
}

export function useSetup() {
  return useQuery({ queryKey: sessionKeys.setup, queryFn: ({ signal }) => read("/api/v1/setup", { signal }) });
}

function useSessionMutation<V>(send: (value: V) => Promise<SchemaSession>) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: send,
    meta: { signsIn: true },
    onSuccess: async (session) => {
      await client.cancelQueries(); // they were asked for by the session before
      client.setQueryData(sessionKeys.session, session);
      void client.invalidateQueries({ predicate: (query) => query.queryKey[0] !== "session" });
    },
  });
}

export const useSignIn = () =>
  useSessionMutation(async (body: SchemaSignIn) => (await call("post", "/api/v1/session", { body })).data);

export const useClaim = () =>
  useSessionMutation(async (body: SchemaClaim) => (await call("post", "/api/v1/claim", { body })).data);

/** Sets the password; the answer has no body, so the session is read anew. */
export const useSetPassword = () =>
  useSessionMutation(async (body: SchemaNewPassword) => {
    await call("put", "/api/v1/session/password", { body });
    return read("/api/v1/session");
  });

export function useSignOut() {
  const client = useQueryClient();
  return useMutation({
    // What is still being read would find the session gone, so the page goes first, and comes back where signing out failed.
    onMutate: async () => {
      await client.cancelQueries();
      client.setQueryData(sessionKeys.session, null);
    },
    mutationFn: () => call("delete", "/api/v1/session"),
    onError: () => doubtSession(client),
  });
}
