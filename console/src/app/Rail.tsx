import { Link, useLocation } from "wouter";
import { classes } from "@/components/class";
import { useHref } from "@/hooks/url";
import { pages, type PageEntry } from "./pages";

/** The pages: with labels on wide screens, icons on middling ones, a bar at the foot of narrow ones. */
export function Rail() {
  return (
    <nav
      aria-label="Pages"
      className="flex shrink-0 border-line bg-canvas max-sm:justify-around max-sm:border-t max-sm:pb-[env(safe-area-inset-bottom)] sm:w-14 sm:flex-col sm:gap-0.5 sm:border-r sm:p-2 xl:w-48"
    >
      <Link href="/" className="mb-2 flex h-8 items-center gap-2.5 rounded px-1.5 max-sm:hidden" aria-label="Fieldgate">
        <Mark />
        <span className="hidden text-base font-semibold tracking-tight xl:block">Fieldgate</span>
      </Link>
      {pages.map((page) => (
        <RailLink key={page.path} page={page} />
      ))}
    </nav>
  );
}

function RailLink({ page: { path, label, icon: Icon, foot } }: { page: PageEntry }) {
  const [at] = useLocation();
  const href = useHref();
  const here = path === "/" ? at === "/" : at === path || at.startsWith(`${path}/`);
  return (
    <Link
      href={href(path)}
      title={label}
      aria-current={here ? "page" : undefined}
      className={classes(
        "flex items-center rounded text-soft hover:bg-hover hover:text-text aria-[current=page]:bg-pressed aria-[current=page]:font-medium aria-[current=page]:text-text",
        "max-sm:h-12 max-sm:min-w-10 max-sm:flex-col max-sm:justify-center max-sm:gap-0.5 max-sm:px-0 max-sm:text-2xs",
        "sm:h-9 sm:justify-center xl:justify-start xl:gap-2.5 xl:px-2.5",
        foot && "sm:mt-auto",
      )}
    >
      <Icon size={16} className={here ? "text-accent" : "text-icon"} aria-hidden />
      <span className="sm:max-xl:sr-only">{label}</span>
    </Link>
  );
}

/** The same drawing as public/favicon.svg. */
export function Mark({ size = 22 }: { size?: number }) {
  return (
    <svg viewBox="0 0 32 32" width={size} height={size} aria-hidden>
      <rect width="32" height="32" rx="7" className="fill-accent-solid" />
      <path d="M9 25V9h14M9 17h10" className="stroke-white" fill="none" strokeWidth="3.4" strokeLinecap="square" />
      <circle cx="23.5" cy="23.5" r="2.7" className="fill-white" />
    </svg>
  );
}
