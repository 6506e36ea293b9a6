import type { LucideIcon } from "lucide-react";
import type { ComponentProps, ReactNode } from "react";
import type { Command } from "@/hooks/commands";
import { showKeys } from "@/hooks/hotkeys";
import { classes } from "./class";
import { Tooltip } from "./Tooltip";

type Kind = "primary" | "secondary" | "quiet" | "danger";

const kinds: Record<Kind, string> = {
  primary: "bg-accent-solid text-on-accent hover:bg-accent-solid-hover border-transparent",
  secondary: "bg-surface text-text border-line-strong hover:bg-hover active:bg-pressed",
  quiet: "bg-transparent text-soft border-transparent hover:bg-hover hover:text-text active:bg-pressed",
  danger: "bg-bad-solid text-white hover:bg-bad-solid-hover border-transparent",
};

const common =
  "inline-flex h-8 shrink-0 items-center justify-center gap-1.5 rounded border text-sm font-medium whitespace-nowrap select-none " +
  "disabled:opacity-55 disabled:pointer-events-none data-[state=open]:bg-pressed";

export interface ButtonProps extends ComponentProps<"button"> {
  kind?: Kind;
  icon?: LucideIcon;
  /** The effect is under way: the button stays as wide as it is and cannot be pressed again. */
  busy?: boolean;
}

export function Button({ kind = "secondary", icon: Icon, busy, className, children, disabled, ...rest }: ButtonProps) {
  return (
    <button
      type="button"
      className={classes(common, kinds[kind], Icon ? "pr-3 pl-2.5" : "px-3", className)}
      disabled={disabled || busy}
      aria-busy={busy || undefined}
      {...rest}
    >
      {Icon && <Icon size={16} aria-hidden />}
      {children}
    </button>
  );
}

export interface IconButtonProps extends Omit<ButtonProps, "children" | "icon"> {
  icon: LucideIcon;
  label: string;
  keys?: string;
}

/** A button of only an icon; its label is its name and its tooltip. */
export function IconButton({ icon: Icon, label, keys, kind = "quiet", className, ...rest }: IconButtonProps) {
  return (
    <Tooltip text={keys ? `${label} (${showKeys(keys)})` : label}>
      <button type="button" aria-label={label} className={classes(common, kinds[kind], "w-8", className)} {...rest}>
        <Icon size={16} aria-hidden />
      </button>
    </Tooltip>
  );
}

/** A command as a button: same label, key and effect as in the palette. */
export function CommandButton({ command, kind, children }: { command: Command; kind?: Kind; children?: ReactNode }) {
  const button = (
    <Button kind={kind} icon={command.icon} aria-disabled={command.refused ? true : undefined}
      className={command.refused && "opacity-55"} onClick={() => !command.refused && command.run()}>
      {children ?? command.label}
    </Button>
  );
  const hint = command.refused ?? (command.keys && showKeys(command.keys));
  return hint ? <Tooltip text={hint}>{button}</Tooltip> : button;
}
