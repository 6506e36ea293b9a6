import type { LucideIcon } from "lucide-react";
import { DropdownMenu as Radix } from "radix-ui";
import { useState, type ReactElement, type ReactNode } from "react";
import { showKeys } from "@/hooks/hotkeys";
import { classes } from "./class";
import { floatingPlace } from "./floating";

const item = "flex h-8 items-center gap-2 rounded-sm px-2 text-sm outline-none select-none data-[highlighted]:bg-hover data-[disabled]:opacity-55";

/** A menu at a button. Not modal: Radix's modal menus lock scrolling with a style element, which the CSP refuses. */
export function Menu({ trigger, children, align = "end" }: { trigger: ReactElement; children: ReactNode; align?: "start" | "end" }) {
  const [place, setPlace] = useState<HTMLElement | null>(null); // as it is when it opens: a dialog may have closed since the last render
  return (
    <Radix.Root modal={false} onOpenChange={(open) => open && setPlace(floatingPlace())}>
      <Radix.Trigger asChild>{trigger}</Radix.Trigger>
      <Radix.Portal container={place}>
        <Radix.Content
          align={align}
          sideOffset={4}
          collisionPadding={8}
          data-modal
          className="appear z-50 min-w-48 rounded border border-line-strong bg-surface p-1 shadow-float"
        >
          {children}
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}

export function MenuItem({ icon: Icon, keys, danger, disabled, onSelect, children }: {
  icon?: LucideIcon;
  keys?: string;
  danger?: boolean;
  disabled?: boolean;
  onSelect: () => void;
  children: ReactNode;
}) {
  return (
    <Radix.Item disabled={disabled} onSelect={onSelect} className={classes(item, danger && "text-bad")}>
      {Icon && <Icon size={16} className={danger ? "" : "text-icon"} aria-hidden />}
      <span className="flex-1">{children}</span>
      {keys && <Keys keys={keys} />}
    </Radix.Item>
  );
}

/** One of several; the chosen one is marked. */
export function MenuChoice<T extends string>({ label, value, options, onChange }: {
  label: string;
  value: T;
  options: readonly { value: T; label: string }[];
  onChange: (value: T) => void;
}) {
  return (
    <Radix.RadioGroup value={value} onValueChange={(v) => onChange(v as T)} aria-label={label}>
      {options.map((option) => (
        <Radix.RadioItem key={option.value} value={option.value} className={classes(item, "pl-7")}>
          <Radix.ItemIndicator className="-ml-5 size-1.5 rounded-full bg-accent mr-1.5" />
          <span className="flex-1">{option.label}</span>
        </Radix.RadioItem>
      ))}
    </Radix.RadioGroup>
  );
}

export const MenuLabel = ({ children }: { children: ReactNode }) => <Radix.Label className="px-2 pt-1.5 pb-1 text-xs text-quiet">{children}</Radix.Label>;
export const MenuLine = () => <Radix.Separator className="-mx-1 my-1 h-px bg-line" />;

/** Keys as they are pressed: "g d" is two. */
export function Keys({ keys }: { keys: string }) {
  return (
    <span className="inline-flex gap-1" aria-hidden>
      {showKeys(keys).split(" ").map((key, i) => (
        <kbd key={i} className="min-w-5 rounded-sm border border-line-strong bg-canvas px-1 text-center text-2xs text-soft">
          {key}
        </kbd>
      ))}
    </span>
  );
}
