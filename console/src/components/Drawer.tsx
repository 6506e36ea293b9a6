import { ChevronDown, ChevronUp, Maximize2, X } from "lucide-react";
import type { ReactNode } from "react";
import { Link } from "wouter";
import { IconButton } from "./Button";
import { classes } from "./class";
import { Tooltip } from "./Tooltip";

/**
 * Details at the right of a list, which stays in use; useDrawer() holds its state. On a wide screen the list makes room, on a
 * middling one the drawer lies over it, on a narrow one it covers the page.
 */
export function Drawer({ title, subtitle, page, onClose, onNext, onPrevious, width = "narrow", children }: {
  title: ReactNode;
  subtitle?: ReactNode;
  /** The address of the full page. */
  page?: string;
  onClose: () => void;
  onNext?: () => void;
  onPrevious?: () => void;
  width?: "narrow" | "wide";
  children: ReactNode;
}) {
  return (
    <aside
      aria-label="Details"
      className={classes(
        "slide-in fixed inset-0 z-30 flex flex-col border-line bg-surface sm:absolute sm:left-auto sm:border-l max-xl:sm:shadow-float xl:static",
        width === "wide" ? "sm:w-[min(860px,92%)] xl:w-[55%] xl:min-w-[640px]" : "sm:w-[min(520px,92%)] xl:w-[480px]",
      )}
    >
      <header className="flex items-start gap-1 border-b border-line py-2.5 pr-2 pl-4">
        <div className="min-w-0 flex-1">
          <h2 className="truncate text-base leading-8 font-semibold">{title}</h2>
          {subtitle && <div className="text-quiet">{subtitle}</div>}
        </div>
        {onPrevious && <IconButton icon={ChevronUp} label="Previous" keys="k" onClick={onPrevious} />}
        {onNext && <IconButton icon={ChevronDown} label="Next" keys="j" onClick={onNext} />}
        {page && (
          <Tooltip text="Open the full page (Enter)">
            <Link href={page} aria-label="Open the full page" className="inline-flex size-8 items-center justify-center rounded text-soft hover:bg-hover">
              <Maximize2 size={16} aria-hidden />
            </Link>
          </Tooltip>
        )}
        <IconButton icon={X} label="Close" keys="Escape" onClick={onClose} />
      </header>
      <div tabIndex={0} role="group" aria-label="Content" className="min-h-0 flex-1 overflow-y-auto px-4 py-3 focus-visible:outline-offset-[-2px]">
        {children}
      </div>
    </aside>
  );
}
