// Values in human units. Whatever these shorten, the components that use them show in full on hover.

const locale = "en-GB"; // The console is written in English; digits, separators and dates go with it.

const integers = new Intl.NumberFormat(locale);
const exactTimes = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "medium" });

/** A count in full: 12,345. */
export function formatCount(value: number): string {
  return integers.format(value);
}

/** A count in at most four characters and a unit: 847, 12.3 k, 4.06 M. */
export function formatShortCount(value: number): string {
  if (Math.abs(value) < 10_000) return integers.format(value);
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]] as const) {
    if (Math.abs(value) >= size) return `${threeDigits(value / size)} ${unit}`;
  }
  return integers.format(value);
}

/** A rate per second: 0, 0.4, 12.3, 1,240. Anything above nothing never shows as 0. */
export function formatRate(value: number): string {
  if (value === 0) return "0";
  if (value < 0.1) return "<0.1";
  return value < 100 ? value.toFixed(1) : formatShortCount(Math.round(value));
}

/** A share of a whole: 0 %, 0.4 %, 12 %, 100 %; only all is 100 %. */
export function formatShare(part: number, whole: number): string {
  if (whole === 0 || part === 0) return "0 %";
  const percent = (100 * part) / whole;
  if (percent < 0.1) return "<0.1 %";
  if (percent < 10) return `${percent.toFixed(1)} %`;
  return part < whole && percent > 99 ? ">99 %" : `${Math.round(percent)} %`;
}

/** Bytes in powers of 1024: 0 B, 812 B, 1.2 KiB. */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return unit === 0 ? `${bytes} B` : `${threeDigits(value)} ${units[unit]}`;
}

/** A duration given in microseconds: 180 µs, 12.4 ms, 1.3 s, 4 min. */
export function formatDuration(micros: number): string {
  if (micros < 1000) return `${Math.round(micros)} µs`;
  if (micros < 1_000_000) return `${threeDigits(micros / 1000)} ms`;
  if (micros < 60_000_000) return `${threeDigits(micros / 1_000_000)} s`;
  return formatSpan(micros / 1000);
}

/** A span given in milliseconds, to its largest unit: 8 s, 4 min, 3 h, 12 days. */
export function formatSpan(ms: number): string {
  const seconds = Math.floor(Math.abs(ms) / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} days`;
}

/** How long ago, or in how long: "just now", "4 min ago", "in 3 days". */
export function formatRelative(time: Date, now: number): string {
  const age = now - time.getTime();
  if (Math.abs(age) < 2000) return "just now";
  return age > 0 ? `${formatSpan(age)} ago` : `in ${formatSpan(age)}`;
}

/** When something ends or has ended: "expires in 40 min", "expired 2 days ago". */
export function formatExpiry(end: Date, now: number): string {
  return `${end.getTime() > now ? "expires" : "expired"} ${formatRelative(end, now)}`;
}

/** The exact time in the reader's time zone, and in UTC. */
export function formatExact(time: Date): string {
  return `${exactTimes.format(time)} (${time.toISOString()})`;
}

/** `one` or `many` after its count: "1 device", "3 devices". */
export function plural(count: number, one: string, many = `${one}s`): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}

function threeDigits(value: number): string {
  if (value < 10) return value.toFixed(2).replace(/\.?0+$/, "");
  if (value < 100) return value.toFixed(1).replace(/\.0$/, "");
  return integers.format(Math.round(value));
}
