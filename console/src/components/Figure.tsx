import type { ReactNode } from "react";
import { Link } from "wouter";

/** A big live number that leads to what it counts. It ticks in place: digits are equally wide and the place is reserved. */
export function Figure({ label, value, unit, href, detail, children }: {
  label: string;
  /** undefined while nothing is known. */
  value: string | undefined;
  unit?: string;
  href: string;
  detail?: ReactNode;
  children?: ReactNode;
}) {
  return (
    <div className="relative flex min-w-0 flex-col gap-2 rounded border border-line bg-surface p-3 hover:border-line-strong has-[a[data-figure]:focus-visible]:outline-2 has-[a[data-figure]:focus-visible]:outline-accent">
      <div className="flex items-baseline justify-between gap-2">
        <Link href={href} data-figure className="font-medium text-soft outline-none after:absolute after:inset-0">
          {label}
        </Link>
      </div>
      <div className="flex h-10 items-end justify-between gap-4">
        <p className="text-figure font-semibold tracking-tight tabular whitespace-nowrap">
          {value ?? <span className="text-quiet">–</span>}
          {unit && <span className="ml-1.5 text-base font-normal tracking-normal text-quiet">{unit}</span>}
        </p>
        {children}
      </div>
      <div className="flex min-h-6 flex-wrap content-start items-center gap-x-3 text-xs text-quiet tabular">{detail}</div>
    </div>
  );
}
