import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { call, read } from "@/api/client";
import { ApiProblem } from "@/api/problem";
import { useKeysetPages } from "@/hooks/keyset";

const all = ["mqtt"] as const;

/** Gateways tell of sessions only when they are asked; how often a page asks again, in milliseconds. */
const again = 5000;

export const useSessions = (filter: string) =>
  useKeysetPages([...all, "sessions", filter], (cursor, signal) => read("/api/v1/mqtt/sessions", { query: { filter, cursor, limit: 500 }, signal }));

/** The first thousand sessions, to say how things are. */
export const useSessionCount = () =>
  useQuery({ queryKey: [...all, "count"], queryFn: ({ signal }) => read("/api/v1/mqtt/sessions", { query: { limit: 1000 }, signal }), refetchInterval: 3 * again });

/** Whether there is no such session any more. */
export const hasEnded = (error: unknown) => error instanceof ApiProblem && error.status === 404;

export const useMqttSession = (mqttSession: string) =>
  useQuery({
    queryKey: [...all, "session", mqttSession],
    queryFn: ({ signal }) => read("/api/v1/mqtt/sessions/{mqttSession}", { path: { mqttSession }, signal }),
    refetchInterval: (query) => (hasEnded(query.state.error) ? false : again),
  });

/** One level of the tree; gateways go on counting while somebody asks. */
export const useTopics = (prefix: string) =>
  useQuery({ queryKey: [...all, "topics", prefix], queryFn: ({ signal }) => read("/api/v1/mqtt/topics", { query: { prefix, limit: 500 }, signal }), refetchInterval: 2000 });

/** Retained messages, and the gateways that did not answer. */
export function useRetained(topic: string) {
  const [missing, setMissing] = useState<readonly string[]>([]);
  const retained = useKeysetPages([...all, "retained", topic], async (cursor, signal) => {
    const page = await read("/api/v1/mqtt/retained", { query: { topic, cursor, limit: 500 }, signal });
    setMissing(page.missing);
    return page;
  });
  return { retained, missing };
}

/** What a retained message carries; that somebody looked stands in the audit log, so that it is asked for only once and on demand. */
export const useRetainedMessage = () => useMutation({ mutationFn: (topic: string) => read("/api/v1/mqtt/retained/message", { query: { topic } }) });

function useDecision<V, R>(mutationFn: (value: V) => Promise<R>) {
  const client = useQueryClient();
  return useMutation({ mutationFn, onSettled: () => client.invalidateQueries({ queryKey: all }) });
}

interface Reasoned {
  mqttSession: string;
  reason: string;
}

export const useDisconnect = () =>
  useDecision(async ({ mqttSession, reason }: Reasoned) => (await call("post", "/api/v1/mqtt/sessions/{mqttSession}/disconnect", { path: { mqttSession }, body: { reason } })).data);

export const useEnd = () =>
  useDecision(async ({ mqttSession, reason }: Reasoned) => (await call("delete", "/api/v1/mqtt/sessions/{mqttSession}", { path: { mqttSession }, query: { reason } })).data);

export const useDeleteRetained = () => useDecision(async (topic: string) => (await call("delete", "/api/v1/mqtt/retained/message", { query: { topic } })).data);
