import { useEffect, type ReactNode } from "react";

/** The page around everything that comes before the console. */
export function Doorway({ title, children }: { title: string; children?: ReactNode }) {
  useEffect(() => {
    document.title = `${title} · Fieldgate`;
  }, [title]);
  return (
    <main className="grid min-h-dvh place-items-start justify-center px-4 pt-[16vh]">
      <div className="w-[min(360px,calc(100vw-32px))]">
        <div className="mb-6 flex items-center gap-3">
          <img src="/favicon.svg" alt="" className="size-9" />
          <p className="text-base font-semibold tracking-tight">Fieldgate</p>
        </div>
        <h1 className="mb-4 text-xl font-semibold tracking-tight">{title}</h1>
        {children}
      </div>
    </main>
  );
}
