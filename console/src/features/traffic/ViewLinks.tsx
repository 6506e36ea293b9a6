import { Link } from "wouter";
import { classes } from "@/components/class";
import { useHref } from "@/hooks/url";

export type View = "exchanges" | "operations" | "undocumented" | "findings";

const views: readonly (readonly [View, string])[] = [
  ["exchanges", "Exchanges"],
  ["operations", "By operation"],
  ["undocumented", "Undocumented"],
  ["findings", "Findings"],
];

/** The four ways to look at traffic. */
export function ViewLinks({ view }: { view: View }) {
  const href = useHref();
  return (
    <nav aria-label="Views of traffic" className="flex shrink-0 gap-4 overflow-x-auto border-b border-line">
      {views.map(([value, label]) => (
        <Link
          key={value}
          href={href("/traffic", { view: value === "exchanges" ? "" : value })}
          aria-current={value === view ? "page" : undefined}
          className={classes(
            "-mb-px inline-flex h-9 items-center border-b-2 font-medium whitespace-nowrap focus-visible:outline-offset-[-2px]",
            value === view ? "border-accent text-text" : "border-transparent text-soft hover:text-text",
          )}
        >
          {label}
        </Link>
      ))}
    </nav>
  );
}
