import { keepPreviousData, useInfiniteQuery, type QueryKey } from "@tanstack/react-query";
import { useMemo } from "react";
import { asProblem, type ApiProblem } from "@/api/problem";

export interface KeysetPages<T> {
  rows: readonly T[];
  /** The first page is on its way, and there is nothing to show meanwhile. */
  loading: boolean;
  /** What is shown belongs to the filter before. */
  stale: boolean;
  problem: ApiProblem | undefined;
  hasMore: boolean;
  loadMore: () => void;
  retry: () => void;
}

/** A list that the API gives page by page (`items`, `next`). */
export function useKeysetPages<T>(
  key: QueryKey,
  page: (cursor: string | undefined, signal: AbortSignal) => Promise<{ items: T[]; next?: string }>,
): KeysetPages<T> {
  const query = useInfiniteQuery({
    queryKey: key,
    queryFn: ({ pageParam, signal }) => page(pageParam || undefined, signal),
    initialPageParam: "",
    getNextPageParam: (last) => last.next,
    placeholderData: keepPreviousData,
  });
  const rows = useMemo(() => query.data?.pages.flatMap((p) => p.items) ?? [], [query.data]);
  return {
    rows,
    loading: query.isPending,
    stale: query.isPlaceholderData,
    problem: query.error ? asProblem(query.error) : undefined,
    hasMore: query.hasNextPage,
    loadMore: () => {
      if (query.hasNextPage && !query.isFetchingNextPage) void query.fetchNextPage();
    },
    retry: () => void query.refetch(),
  };
}
