// Live traffic as a list. It is read once, goes on by server-sent events, and holds still while one reads.
import { useCallback, useEffect, useMemo, useReducer, useRef, useState } from "react";
import { address, read } from "@/api/client";
import { asProblem, type ApiProblem } from "@/api/problem";
import type { SchemaTrafficRecord } from "@/api/schema.gen";
import { arrived, continued, emptyTail, isLong, lostSome, opened, type TailList } from "@/lib/tail";
import { useEventSource } from "./events";
import type { KeysetPages } from "./keyset";

type List = TailList<SchemaTrafficRecord>;

export interface Tail {
  pages: KeysetPages<SchemaTrafficRecord>;
  /** How many came while the list held still. */
  held: number;
  /** Shows those. */
  release: () => void;
  /** Whether new exchanges arrive. */
  connected: boolean;
  /** Exchanges that this reader was too slow for. */
  left: number;
}

const tick = 250; // ms between two changes of the list

/** The newest exchanges that fit the filter. `filter` is that of the list; `streamFilter` the same without a time. */
export function useTail(filter: string, streamFilter: string, holding: boolean, limit = 100): Tail {
  const list = useRef<List>(emptyTail);
  const incoming = useRef<SchemaTrafficRecord[]>([]);
  const held = useRef(holding);
  const [, draw] = useReducer((n: number) => n + 1, 0);
  const [status, setStatus] = useState<{ filter?: string; problem?: ApiProblem }>({});
  const [left, setLeft] = useState(0);
  const reading = useRef<AbortController | undefined>(undefined);

  const set = useCallback((next: List) => {
    list.current = next;
    draw();
  }, []);

  /** Reads the newest page; what arrives meanwhile waits for it. */
  const open = useCallback(async () => {
    reading.current?.abort();
    const controller = new AbortController();
    reading.current = controller;
    try {
      const page = await read("/api/v1/traffic", { query: { filter, limit }, signal: controller.signal });
      set(opened(list.current, page));
      setStatus({ filter });
    } catch (error) {
      if (!controller.signal.aborted) setStatus({ filter, problem: asProblem(error) });
    } finally {
      if (reading.current === controller) reading.current = undefined;
    }
  }, [filter, limit, set]);

  useEffect(() => {
    list.current = { ...emptyTail, rows: list.current.rows }; // shown as stale until the new ones are there
    incoming.current = [];
    setLeft(0);
    void open();
    return () => reading.current?.abort();
  }, [open]);

  const release = useCallback(() => {
    const lost = lostSome(list.current);
    set(arrived(list.current, [], false));
    if (lost) void open();
  }, [open, set]);

  useEffect(() => {
    held.current = holding;
    if (!holding && list.current.heldCount > 0) release();
  }, [holding, release]);

  useEffect(() => {
    const timer = setInterval(() => {
      if (incoming.current.length === 0 || reading.current) return;
      const entries = incoming.current.reverse();
      incoming.current = [];
      set(arrived(list.current, entries, held.current));
      if (!held.current && isLong(list.current)) void open();
    }, tick);
    return () => clearInterval(timer);
  }, [open, set]);

  const { connected } = useEventSource(address("/api/v1/traffic/stream", {}, { filter: streamFilter }), {
    exchange: (data) => {
      incoming.current.push(data as SchemaTrafficRecord);
      if (incoming.current.length > 4000) incoming.current.splice(0, 2000);
    },
    dropped: (data) => setLeft((n) => n + (data as { count: number }).count),
  });
  const wasConnected = useRef(true);
  useEffect(() => {
    if (connected && !wasConnected.current && !held.current) void open(); // some were missed
    wasConnected.current = connected;
  }, [connected, open]);

  const loadingMore = useRef(false);
  const loadMore = useCallback(() => {
    const cursor = list.current.next;
    if (!cursor || loadingMore.current || reading.current) return;
    loadingMore.current = true;
    read("/api/v1/traffic", { query: { filter, limit, cursor } })
      .then(
        (page) => {
          if (list.current.next === cursor) set(continued(list.current, page));
        },
        (error: unknown) => setStatus({ filter, problem: asProblem(error) }),
      )
      .finally(() => (loadingMore.current = false));
  }, [filter, limit, set]);

  const { rows, next, heldCount } = list.current;
  const ready = status.filter !== undefined;
  const stale = status.filter !== filter && ready;
  const pages = useMemo(
    () => ({
      rows,
      loading: !ready,
      stale,
      problem: status.problem,
      hasMore: next !== undefined,
      loadMore,
      retry: () => void open(),
    }),
    [rows, ready, stale, status.problem, next, loadMore, open],
  );
  return { pages, held: heldCount, release, connected, left };
}
