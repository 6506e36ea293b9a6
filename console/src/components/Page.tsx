import { useEffect, type ReactNode } from "react";
import { classes } from "./class";

/**
 * A page: its name, the sentence that says what is true now and what needs a person, its actions, its content. `fill` gives the
 * content the rest of the height (a table scrolls within); without it the page scrolls as a whole.
 */
export function Page({ title, sentence, actions, fill, children, drawer }: {
  title: string;
  sentence?: ReactNode;
  actions?: ReactNode;
  fill?: boolean;
  drawer?: ReactNode;
  children: ReactNode;
}) {
  useEffect(() => {
    document.title = `${title} · Fieldgate`;
  }, [title]);
  return (
    <div className="absolute inset-0 flex">
      <div
        className={classes("min-w-0 flex-1", fill ? "flex flex-col overflow-hidden" : "overflow-y-auto")}
        {...(fill ? {} : { tabIndex: 0, role: "group", "aria-label": title })}
      >
        <div className={classes("mx-auto flex w-full max-w-[1560px] flex-col gap-4 px-4 pt-4 pb-6 lg:px-6", fill && "min-h-0 flex-1 pb-0!")}>
          <header className="flex flex-wrap items-start gap-x-6 gap-y-2">
            <div className="min-w-0 flex-[1_1_320px]">
              <h1 className="text-xs font-medium text-quiet">{title}</h1>
              {sentence && <Sentence>{sentence}</Sentence>}
            </div>
            {actions && <div className="flex flex-wrap gap-2">{actions}</div>}
          </header>
          {children}
        </div>
      </div>
      {drawer}
    </div>
  );
}

/** The sentence a page opens with. Numbers in it are links to what they count. */
export function Sentence({ children }: { children: ReactNode }) {
  return <p className="mt-0.5 max-w-[90ch] text-lg tabular text-pretty">{children}</p>;
}

/** A part of a page with a heading of its own. */
export function Section({ title, actions, children, flush }: { title: ReactNode; actions?: ReactNode; children: ReactNode; flush?: boolean }) {
  return (
    <section className="min-w-0 rounded border border-line bg-surface">
      <header className="flex min-h-10 flex-wrap items-center gap-x-2 gap-y-1 border-b border-line py-1 pr-2 pl-3">
        <h2 className="min-w-fit flex-1 font-semibold">{title}</h2>
        {actions}
      </header>
      <div className={flush ? "" : "p-3"}>{children}</div>
    </section>
  );
}
