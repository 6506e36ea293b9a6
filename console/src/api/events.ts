// The one stream of live figures, decisions and health that all pages share. It reconnects by itself, says how old the data is,
// and has queries read anew what a decision touched.
import type { QueryClient } from "@tanstack/react-query";
import type { SchemaChange, SchemaHealthItem, SchemaHealthReport, SchemaLiveFigures } from "./schema.gen";

export interface EventState {
  /** Whether figures arrive now. */
  connected: boolean;
  /** Whether they should and do not. */
  lost: boolean;
  /** When the last event came, by this browser's clock; 0 before the first. */
  heardAt: number;
  figures: SchemaLiveFigures | undefined;
  /** The figures of the last minutes, oldest first, one a second. */
  history: readonly SchemaLiveFigures[];
  health: readonly SchemaHealthItem[];
}

const historyLength = 120;
const silence = 5000; // ms without an event until the connection counts as lost: `live` comes each second
const longestWait = 15_000; // ms between attempts

/** Which collections a decision touches; query keys begin with the collection's name. */
const touched: Record<string, readonly string[]> = {
  api: ["apis", "findings", "traffic"],
  device: ["devices"],
  app: ["apps"],
  operator: ["operators", "session", "sessions", "tokens"],
  token: ["tokens"],
  session: ["sessions"],
  capture: ["captures"],
  target: ["upstreams"],
  "mqtt-session": ["mqtt"],
  retained: ["mqtt"],
};

export class EventFeed {
  #state: EventState = { connected: false, lost: false, heardAt: 0, figures: undefined, history: [], health: [] };
  #listeners = new Set<() => void>();
  #source: EventSource | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #attempts = 0;
  readonly #queries: QueryClient;
  readonly #url: string;

  constructor(queries: QueryClient, url = "/api/v1/events") {
    this.#queries = queries;
    this.#url = url;
  }

  get state(): EventState {
    return this.#state;
  }

  subscribe = (listener: () => void) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  start() {
    this.stop();
    const source = new EventSource(this.#url);
    this.#source = source;
    const on = <T>(name: string, take: (data: T) => Partial<EventState>) =>
      source.addEventListener(name, (event: MessageEvent<string>) => {
        const returned = !this.#state.connected && this.#state.heardAt > 0;
        this.#attempts = 0;
        this.#update({ ...take(event.data ? JSON.parse(event.data) : undefined), connected: true, lost: false, heardAt: Date.now() });
        this.#watch(silence);
        if (returned) void this.#queries.invalidateQueries(); // decisions may have been missed
      });
    on<SchemaLiveFigures>("live", (figures) => ({
      figures,
      history: [...this.#state.history.slice(1 - historyLength), figures],
    }));
    on<SchemaHealthReport>("health", (report) => {
      void this.#queries.invalidateQueries({ queryKey: ["status"] });
      return { health: report.items };
    });
    on<SchemaChange>("changed", (change) => {
      this.#invalidate(change);
      return {};
    });
    on("turned", () => {
      for (const collection of ["upstreams", "status"]) void this.#queries.invalidateQueries({ queryKey: [collection] });
      return {};
    });
    on("missed", () => {
      void this.#queries.invalidateQueries();
      return {};
    });
    source.onerror = () => {
      // The browser reconnects by itself, unless the node refused: it may be that the session is over.
      if (source.readyState === EventSource.CLOSED) this.#retry();
    };
    this.#watch(silence);
  }

  stop() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = undefined;
  }

  #watch(ms: number) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#retry(), ms);
  }

  #retry() {
    this.stop();
    this.#update({ connected: false, lost: true });
    void this.#queries.refetchQueries({ queryKey: ["session"] }, { cancelRefetch: false }); // it may be over
    const wait = Math.min(500 * 2 ** this.#attempts++, longestWait);
    this.#timer = setTimeout(() => this.start(), wait * (0.75 + Math.random() / 2));
  }

  #invalidate(change: SchemaChange) {
    const noun = change.action.split(".")[0]!;
    for (const collection of [...(touched[noun] ?? []), "status", "timeline", "audit"]) {
      void this.#queries.invalidateQueries({ queryKey: [collection] });
    }
  }

  #update(change: Partial<EventState>) {
    this.#state = { ...this.#state, ...change };
    this.#listeners.forEach((listener) => listener());
  }
}
