import { Link } from "wouter";
import { classes } from "@/components/class";
import { useHref } from "@/hooks/url";

/** The ways to look at one thing: a path and a name each. */
export function Views({ label, views, here }: { label: string; views: readonly (readonly [string, string])[]; here: string }) {
  const href = useHref();
  return (
    <nav aria-label={label} className="flex shrink-0 gap-4 overflow-x-auto border-b border-line">
      {views.map(([path, label]) => (
        <Link
          key={path}
          href={href(path)}
          aria-current={path === here ? "page" : undefined}
          className={classes(
            "-mb-px inline-flex h-9 items-center border-b-2 font-medium whitespace-nowrap focus-visible:outline-offset-[-2px]",
            path === here ? "border-accent text-text" : "border-transparent text-soft hover:text-text",
          )}
        >
          {label}
        </Link>
      ))}
    </nav>
  );
}
