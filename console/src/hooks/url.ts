// The URL is the state: filter, range, open drawer. Whatever is at its default is not in the URL.
import { useCallback, useMemo } from "react";
import { useLocation, useSearch } from "wouter";
import { navigate } from "wouter/use-browser-location";
import { withRange } from "@/lib/filter";

/** One query parameter; empty is absent. Typing replaces the entry in the history, deciding adds one. */
export function useUrlParam(name: string): [string, (value: string, options?: { replace?: boolean }) => void] {
  const value = new URLSearchParams(useSearch()).get(name) ?? "";
  const set = useCallback(
    (next: string, options?: { replace?: boolean }) => {
      const search = new URLSearchParams(window.location.search);
      if ((search.get(name) ?? "") === next) return;
      if (next) search.set(name, next);
      else search.delete(name);
      navigate(window.location.pathname + (search.size > 0 ? `?${search}` : ""), options);
    },
    [name],
  );
  return [value, set];
}

export const ranges = [
  { value: "15m", label: "15 minutes", minutes: 15 },
  { value: "1h", label: "1 hour", minutes: 60 },
  { value: "6h", label: "6 hours", minutes: 360 },
  { value: "24h", label: "24 hours", minutes: 1440 },
  { value: "7d", label: "7 days", minutes: 10_080 },
  { value: "30d", label: "30 days", minutes: 43_200 },
] as const;

const defaultRange = "24h";

export interface Range {
  /** As the filter grammar writes it: 15m, 1h, … */
  value: string;
  label: string;
  minutes: number;
  /** Whether the page moves on by itself. */
  live: boolean;
  setRange: (value: string) => void;
  setLive: (live: boolean) => void;
}

/** The time range of the page and whether it is live. */
export function useRange(): Range {
  const [value, setValue] = useUrlParam("range");
  const [live, setLiveParam] = useUrlParam("live");
  const range = ranges.find((r) => r.value === value) ?? ranges.find((r) => r.value === defaultRange)!;
  return {
    ...range,
    live: live !== "off",
    setRange: useCallback((v: string) => setValue(v === defaultRange ? "" : v), [setValue]),
    setLive: useCallback((on: boolean) => setLiveParam(on ? "" : "off", { replace: true }), [setLiveParam]),
  };
}

/** The page's filter: as it was written, and as the API takes it, with the time range where the list has one. */
export function useFilter(): { text: string; setText: (text: string, options?: { replace?: boolean }) => void; inRange: string } {
  const [text, setText] = useUrlParam("filter");
  const range = useRange();
  return { text, setText, inRange: withRange(text, range.value) };
}

/** Addresses of pages that keep the range: `href("/traffic", { filter: "status:denied" })`. */
export function useHref(): (path: string, params?: Record<string, string | undefined>) => string {
  const search = useSearch();
  return useMemo(() => {
    const now = new URLSearchParams(search);
    return (path, params = {}) => {
      const next = new URLSearchParams();
      for (const name of ["range", "live"]) {
        const value = now.get(name);
        if (value) next.set(name, value);
      }
      for (const [name, value] of Object.entries(params)) {
        if (value) next.set(name, value);
        else next.delete(name);
      }
      return next.size > 0 ? `${path}?${next}` : path;
    };
  }, [search]);
}

/** The same page with one parameter changed, for links that open a drawer. */
export function useHereHref(): (params: Record<string, string>) => string {
  const search = useSearch();
  const [path] = useLocation();
  return (params) => {
    const next = new URLSearchParams(search);
    for (const [name, value] of Object.entries(params)) {
      if (value) next.set(name, value);
      else next.delete(name);
    }
    return next.size > 0 ? `${path}?${next}` : path;
  };
}
