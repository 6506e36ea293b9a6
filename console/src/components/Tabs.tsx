import { Tabs as Radix } from "radix-ui";
import type { ReactNode } from "react";
import { useUrlParam } from "@/hooks/url";

export interface Tab {
  value: string;
  label: ReactNode;
  content: ReactNode;
}

/** Tabs whose open one is in the URL; the first is the default. */
export function Tabs({ tabs, label, param = "tab" }: { tabs: readonly [Tab, ...Tab[]]; label: string; param?: string }) {
  const [value, setValue] = useUrlParam(param);
  const open = tabs.some((t) => t.value === value) ? value : tabs[0].value;
  return (
    <Radix.Root value={open} onValueChange={(v) => setValue(v === tabs[0].value ? "" : v)}>
      <Radix.List aria-label={label} className="flex gap-4 overflow-x-auto border-b border-line">
        {tabs.map((t) => (
          <Radix.Trigger
            key={t.value}
            value={t.value}
            className="-mb-px h-9 border-b-2 border-transparent font-medium whitespace-nowrap text-soft hover:text-text focus-visible:outline-offset-[-2px] data-[state=active]:border-accent data-[state=active]:text-text"
          >
            {t.label}
          </Radix.Trigger>
        ))}
      </Radix.List>
      {tabs.map((t) => (
        <Radix.Content key={t.value} value={t.value} className="pt-4 focus-visible:outline-offset-2">
          {t.content}
        </Radix.Content>
      ))}
    </Radix.Root>
  );
}
