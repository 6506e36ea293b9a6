import type { ComponentProps, ReactElement, ReactNode } from "react";
import { cloneElement, useId } from "react";
import { classes } from "./class";

const box =
  "w-full rounded border border-control bg-surface px-2.5 text-sm text-text hover:border-icon disabled:opacity-55 " +
  "aria-invalid:border-bad focus-visible:outline-offset-0";

/** A label, one control, a hint and what is wrong with the value. */
export function Field({ label, hint, error, optional, children }: {
  label: string;
  hint?: ReactNode;
  error?: string;
  optional?: boolean;
  children: ReactElement<{ id?: string; "aria-describedby"?: string; "aria-invalid"?: boolean }>;
}) {
  const id = useId();
  const said = error ?? hint;
  return (
    <div className="flex flex-col gap-1">
      <label htmlFor={id} className="font-medium">
        {label}
        {optional && <span className="font-normal text-quiet"> (optional)</span>}
      </label>
      {cloneElement(children, { id, "aria-describedby": said ? `${id}-said` : undefined, "aria-invalid": error ? true : undefined })}
      {said && (
        <p id={`${id}-said`} className={classes("text-xs", error ? "text-bad" : "text-quiet")}>
          {said}
        </p>
      )}
    </div>
  );
}

export function Input({ className, ...rest }: ComponentProps<"input">) {
  return <input className={classes(box, "h-8", className)} autoComplete="off" spellCheck={false} {...rest} />;
}

export function Textarea({ className, ...rest }: ComponentProps<"textarea">) {
  return <textarea className={classes(box, "min-h-20 py-1.5", className)} {...rest} />;
}

/** The browser's own select: it works with every input, on every screen. */
export function Select({ className, ...rest }: ComponentProps<"select">) {
  return <select className={classes(box, "h-8 pr-1", className)} {...rest} />;
}
