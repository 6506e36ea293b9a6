import { createContext, useContext, useEffect, useRef, useState, useSyncExternalStore } from "react";
import type { EventFeed, EventState } from "@/api/events";
import type { SchemaLiveFigures } from "@/api/schema.gen";
import { useRange } from "./url";

export const EventContext = createContext<EventFeed | undefined>(undefined);

/** What the shared event stream says; the component renders when the selected part changes. */
export function useEvents<T>(select: (state: EventState) => T): T {
  const feed = useContext(EventContext);
  if (!feed) throw new Error("useEvents outside of the frame");
  return useSyncExternalStore(feed.subscribe, () => select(feed.state));
}

/** The live figures and those of the last minutes; they stand still while the page is not live. */
export function useLiveFigures(): { figures: SchemaLiveFigures | undefined; history: readonly SchemaLiveFigures[] } {
  const { live } = useRange();
  const figures = useEvents((state) => state.figures);
  const history = useEvents((state) => state.history);
  const [shown, setShown] = useState({ figures, history });
  useEffect(() => {
    if (live) setShown({ figures, history });
  }, [live, figures, history]);
  return live ? { figures, history } : shown;
}

/** Server-sent events of one page, such as live traffic: `on` names what to do with each kind of event. */
export function useEventSource(url: string | undefined, on: Record<string, (data: unknown) => void>): { connected: boolean } {
  const [connected, setConnected] = useState(false);
  const handlers = useRef(on);
  useEffect(() => {
    handlers.current = on;
  });
  useEffect(() => {
    if (!url) return;
    let source: EventSource;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let attempts = 0;
    const open = () => {
      source = new EventSource(url);
      source.onopen = () => {
        attempts = 0;
        setConnected(true);
      };
      source.onerror = () => {
        setConnected(false);
        if (source.readyState === EventSource.CLOSED) timer = setTimeout(open, Math.min(500 * 2 ** attempts++, 15_000));
      };
      for (const name of Object.keys(handlers.current)) {
        source.addEventListener(name, (event: MessageEvent<string>) => handlers.current[name]?.(JSON.parse(event.data)));
      }
    };
    open();
    return () => {
      clearTimeout(timer);
      source.close();
      setConnected(false);
    };
  }, [url]);
  return { connected };
}
