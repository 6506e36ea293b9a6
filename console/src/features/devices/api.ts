import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { call, read } from "@/api/client";
import { ApiProblem } from "@/api/problem";
import type { SchemaDevice, SchemaDeviceUpdate, SchemaNewDevice, SchemaNewPsk } from "@/api/schema.gen";
import { useKeysetPages } from "@/hooks/keyset";

export type DeviceOrder = "id" | "seen";

export const deviceKeys = {
  all: ["devices"] as const,
  list: (filter: string, order: DeviceOrder) => ["devices", "list", filter, order] as const,
  one: (device: string) => ["devices", "one", device] as const,
};

/** Pages are large, so that a list of thousands scrolls without gaps. */
export const useDevices = (filter: string, order: DeviceOrder) =>
  useKeysetPages(deviceKeys.list(filter, order), (cursor, signal) =>
    read("/api/v1/devices", { query: { filter, order: order === "id" ? undefined : order, cursor, limit: 1000 }, signal }),
  );

/** How many devices fit a filter, of which there are few; `more` when there are more than counted. */
export const useDeviceCount = (filter: string) =>
  useQuery({
    queryKey: ["devices", "count", filter],
    queryFn: async ({ signal }) => {
      const page = await read("/api/v1/devices", { query: { filter, limit: 1000 }, signal });
      return { count: page.items.length, more: page.next !== undefined };
    },
  });

export interface SeenDevice {
  device: SchemaDevice;
  etag: string | undefined;
}

const readDevice = async (device: string, signal?: AbortSignal): Promise<SeenDevice> => {
  const { data, etag } = await call("get", "/api/v1/devices/{device}", { path: { device }, signal });
  return { device: data, etag };
};

export const useDevice = (device: string) =>
  useQuery({ queryKey: deviceKeys.one(device), queryFn: ({ signal }) => readDevice(device, signal), refetchInterval: 15_000 });

export const useStatus = () => useQuery({ queryKey: ["status"], queryFn: ({ signal }) => read("/api/v1/status", { signal }) });

function useDeviceMutation<V, R>(mutationFn: (value: V) => Promise<R>) {
  const client = useQueryClient();
  return useMutation({
    mutationFn,
    onSettled: () => client.invalidateQueries({ queryKey: deviceKeys.all }),
  });
}

export interface Reasoned {
  device: string;
  reason?: string;
}

const reasonBody = (reason: string | undefined) => (reason ? { reason } : {});

export const useQuarantine = () =>
  useDeviceMutation(({ device, reason }: Reasoned) => call("post", "/api/v1/devices/{device}/quarantine", { path: { device }, body: reasonBody(reason) }));

export const useRelease = () =>
  useDeviceMutation(({ device, reason }: Reasoned) => call("post", "/api/v1/devices/{device}/release", { path: { device }, body: reasonBody(reason) }));

export const useRevoke = () =>
  useDeviceMutation(({ device, reason }: Reasoned) => call("post", "/api/v1/devices/{device}/revoke", { path: { device }, body: reasonBody(reason) }));

/** `decision` names the decision, so that a second attempt does not issue a second token. */
export const useIssueToken = () =>
  useDeviceMutation(async ({ device, keep, decision }: { device: string; keep: boolean; decision: string }) => {
    const { data } = await call("post", "/api/v1/devices/{device}/token", { path: { device }, query: { keep }, idempotencyKey: decision });
    return data.token;
  });

/** The key is shown only in the answer. */
export const useSetPsk = () =>
  useDeviceMutation(async ({ device, body, decision }: { device: string; body: SchemaNewPsk; decision: string }) => {
    const { data } = await call("put", "/api/v1/devices/{device}/psk", { path: { device }, body, idempotencyKey: decision });
    return data;
  });

export const useRemovePsk = () =>
  useDeviceMutation((device: string) => call("delete", "/api/v1/devices/{device}/psk", { path: { device } }));

export const useAddCertificate = () =>
  useDeviceMutation(({ device, certificate }: { device: string; certificate: string }) =>
    call("post", "/api/v1/devices/{device}/certificates", { path: { device }, body: { certificate } }));

export const useRemoveCertificate = () =>
  useDeviceMutation(({ device, fingerprint }: { device: string; fingerprint: string }) =>
    call("delete", "/api/v1/devices/{device}/certificates/{fingerprint}", { path: { device, fingerprint } }));

export const useAddDevice = () =>
  useDeviceMutation(async ({ body, decision }: { body: SchemaNewDevice; decision: string }) => {
    const { data } = await call("post", "/api/v1/devices", { body, idempotencyKey: decision });
    return data;
  });

/** Thrown where somebody else was faster: how it is now. */
export class ChangedDevice extends Error {
  readonly now: SeenDevice;
  readonly problem: ApiProblem;

  constructor(now: SeenDevice, problem: ApiProblem) {
    super(problem.message);
    this.now = now;
    this.problem = problem;
  }
}

export const useUpdateDevice = () =>
  useDeviceMutation(async ({ device, update, etag }: { device: string; update: SchemaDeviceUpdate; etag: string | undefined }) => {
    try {
      return await call("patch", "/api/v1/devices/{device}", { path: { device }, body: update, ifMatch: etag });
    } catch (error) {
      if (error instanceof ApiProblem && error.status === 412) throw new ChangedDevice(await readDevice(device), error);
      throw error;
    }
  });

/** The exchange in which a device was last refused. */
export const useLastRefusal = (device: string, refusedAt: string | undefined) =>
  useQuery({
    queryKey: ["traffic", "last-refusal", device, refusedAt],
    enabled: refusedAt !== undefined,
    queryFn: async ({ signal }) => {
      const page = await read("/api/v1/traffic", { query: { filter: `device:${device} status:denied`, limit: 1 }, signal });
      return page.items[0] ?? null;
    },
  });

/** Commands that wait for a device, and what has become of the newest. */
export const useDeviceCommands = (device: string) =>
  useQuery({
    queryKey: ["devices", "commands", device],
    queryFn: ({ signal }) => read("/api/v1/devices/{device}/commands", { path: { device }, signal }),
    refetchInterval: 5_000,
  });

export const useCancelCommand = () =>
  useDeviceMutation(({ device, command }: { device: string; command: string }) =>
    call("post", "/api/v1/devices/{device}/commands/{command}/cancel", { path: { device, command } }));
