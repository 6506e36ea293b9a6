import type { ReactNode } from "react";

/** Nothing here yet, or nothing that fits: says why, and the one thing to do about it. */
export function EmptyState({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="mx-auto flex max-w-[68ch] flex-col items-start gap-3 px-4 py-10">
      <p className="text-lg font-medium">{title}</p>
      {children}
    </div>
  );
}

/** The place of something that is on its way, in its final size; it shows after 300 ms. */
export function Skeleton({ className }: { className: string }) {
  return <span aria-hidden className={`appear-late block rounded-sm bg-pressed ${className}`} />;
}
