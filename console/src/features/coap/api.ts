import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { call, read } from "@/api/client";
import { ApiProblem } from "@/api/problem";
import { useKeysetPages } from "@/hooks/keyset";

const all = ["coap"] as const;

/** Gateways tell of peers only when they are asked; how often a page asks again, in milliseconds. */
const again = 5000;

export const usePeers = (filter: string) =>
  useKeysetPages([...all, "peers", filter], (cursor, signal) => read("/api/v1/coap/peers", { query: { filter, cursor, limit: 500 }, signal }));

export const useObservations = (filter: string) =>
  useKeysetPages([...all, "observations", filter], (cursor, signal) => read("/api/v1/coap/observations", { query: { filter, cursor, limit: 500 }, signal }));

export const useTransfers = (filter: string) =>
  useKeysetPages([...all, "transfers", filter], (cursor, signal) => read("/api/v1/coap/transfers", { query: { filter, cursor, limit: 500 }, signal }));

/** The first thousand peers, to say how things are. */
export const usePeerCount = () =>
  useQuery({ queryKey: [...all, "count"], queryFn: ({ signal }) => read("/api/v1/coap/peers", { query: { limit: 1000 }, signal }), refetchInterval: 3 * again });

/** Whether the gateway knows the peer no more. */
export const isForgotten = (error: unknown) => error instanceof ApiProblem && error.status === 404;

export const usePeer = (coapPeer: string) =>
  useQuery({
    queryKey: [...all, "peer", coapPeer],
    queryFn: ({ signal }) => read("/api/v1/coap/peers/{coapPeer}", { path: { coapPeer }, signal }),
    refetchInterval: (query) => (isForgotten(query.state.error) ? false : again),
  });

/** What has ended is gone from the page once it is asked for anew, and with it who waits to hear of the end: so nobody waits for that. */
function useDecision<V, R>(mutationFn: (value: V) => Promise<R>) {
  const client = useQueryClient();
  return useMutation({ mutationFn, onSettled: () => void client.invalidateQueries({ queryKey: all }) });
}

export const useEndObservation = () =>
  useDecision(async ({ coapObservation, reason }: { coapObservation: string; reason: string }) =>
    (await call("delete", "/api/v1/coap/observations/{coapObservation}", { path: { coapObservation }, query: { reason } })).data);

export const useEndSession = () =>
  useDecision(async ({ coapPeer, reason }: { coapPeer: string; reason: string }) =>
    (await call("delete", "/api/v1/coap/peers/{coapPeer}", { path: { coapPeer }, query: { reason } })).data);
