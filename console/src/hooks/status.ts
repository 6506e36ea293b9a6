import { useQuery } from "@tanstack/react-query";
import { read } from "@/api/client";

/** The state of the installation: counts, listeners, gateways, warnings. */
export const useStatus = () =>
  useQuery({ queryKey: ["status"], queryFn: ({ signal }) => read("/api/v1/status", { signal }), refetchInterval: 10_000 });
