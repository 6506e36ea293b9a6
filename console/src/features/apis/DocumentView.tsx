import { useVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useMemo, useRef } from "react";
import type { SchemaContractFinding } from "@/api/schema.gen";
import { ToneIcon } from "@/components/Badge";
import { classes } from "@/components/class";

const lineHeight = 20;

/** A document to read: lines with numbers, findings beside the lines that they are about. `at` is a line to bring into view. */
export function DocumentView({ text, findings = [], at, label }: { text: string; findings?: readonly SchemaContractFinding[]; at?: { line: number }; label: string }) {
  const scroller = useRef<HTMLDivElement>(null);
  const lines = useMemo(() => text.split(/\r\n|\n|\r/), [text]);
  const byLine = useMemo(() => {
    const found = new Map<number, SchemaContractFinding>();
    for (const f of findings) if (f.line && (f.severity === "error" || !found.has(f.line))) found.set(f.line, f);
    return found;
  }, [findings]);
  const longest = useMemo(() => Math.min(Math.max(...lines.slice(0, 20_000).map((l) => l.length)), 2000), [lines]);
  const virtual = useVirtualizer({ count: lines.length, getScrollElement: () => scroller.current, estimateSize: () => lineHeight, overscan: 30 });
  useEffect(() => {
    if (at) virtual.scrollToIndex(Math.min(at.line, lines.length) - 1, { align: "center" });
  }, [at, lines.length, virtual]);
  const digits = String(lines.length).length;
  return (
    <div ref={scroller} tabIndex={0} role="group" aria-label={label} className="h-full min-h-0 overflow-auto bg-surface focus-visible:outline-offset-[-2px]">
      <div className="relative min-w-full font-mono text-xs" style={{ height: virtual.getTotalSize(), width: `${longest + digits + 6}ch` }}>
        {virtual.getVirtualItems().map((item) => {
          const number = item.index + 1;
          const finding = byLine.get(number);
          const tone = finding && (finding.severity === "error" ? "bad" : "warning");
          return (
            <div
              key={item.key}
              data-line={number}
              className={classes("absolute inset-x-0 top-0 flex leading-5 whitespace-pre", tone === "bad" && "bg-bad-tint", tone === "warning" && "bg-warning-tint", at?.line === number && "outline-1 -outline-offset-1 outline-accent")}
              style={{ height: lineHeight, transform: `translateY(${item.start}px)` }}
            >
              <span className="sticky left-0 flex shrink-0 items-center justify-end gap-1 border-r border-line bg-canvas px-2 text-quiet select-none" style={{ width: `calc(${digits}ch + 34px)` }}>
                {tone && <ToneIcon tone={tone} size={12} />}
                {number}
              </span>
              <span className="pl-3">{lines[item.index]!.slice(0, 2000)}</span>
              {finding && <span className={classes("pl-6 font-sans", tone === "bad" ? "text-bad" : "text-warning")}>{finding.message}</span>}
            </div>
          );
        })}
      </div>
    </div>
  );
}
