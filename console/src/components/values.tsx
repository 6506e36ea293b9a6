// Values as people read them, with the exact one on hover.
import { useClock } from "@/hooks/clock";
import { formatBytes, formatDuration, formatExact, formatExpiry, formatRelative, formatSpan } from "@/lib/format";

export function RelativeTime({ time }: { time: string | Date }) {
  const date = typeof time === "string" ? new Date(time) : time;
  const text = useClock((now) => formatRelative(date, now));
  return (
    <time dateTime={date.toISOString()} title={formatExact(date)} className="tabular whitespace-nowrap">
      {text}
    </time>
  );
}

/** For how long something has not been seen any more: "over for 18 min". */
export function OverSince({ time }: { time: string }) {
  const date = new Date(time);
  const text = useClock((now) => formatSpan(now - date.getTime()));
  return (
    <time dateTime={date.toISOString()} title={formatExact(date)} className="tabular whitespace-nowrap">
      over for {text}
    </time>
  );
}

/** When something ends, or that it has ended. */
export function Expiry({ time }: { time: string }) {
  const date = new Date(time);
  const text = useClock((now) => formatExpiry(date, now));
  return (
    <time dateTime={date.toISOString()} title={formatExact(date)} className="tabular whitespace-nowrap">
      {text}
    </time>
  );
}

/** A duration in microseconds. */
export function Duration({ micros }: { micros: number }) {
  return (
    <span title={`${micros} µs`} className="tabular whitespace-nowrap">
      {formatDuration(micros)}
    </span>
  );
}

export function Bytes({ bytes }: { bytes: number }) {
  return (
    <span title={`${bytes} bytes`} className="tabular whitespace-nowrap">
      {formatBytes(bytes)}
    </span>
  );
}
