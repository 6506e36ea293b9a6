import { Tooltip as Radix } from "radix-ui";
import { useState, type ReactElement } from "react";
import { floatingPlace } from "./floating";

/** Says what something is on hover and focus. The trigger has a name of its own; this adds to it. */
export function Tooltip({ text, children, side = "bottom" }: { text: string; children: ReactElement; side?: "top" | "right" | "bottom" | "left" }) {
  const [place, setPlace] = useState<HTMLElement | null>(null); // as it is when it opens: a dialog may have closed since the last render
  return (
    <Radix.Root onOpenChange={(open) => open && setPlace(floatingPlace())}>
      <Radix.Trigger asChild>{children}</Radix.Trigger>
      <Radix.Portal container={place}>
        <Radix.Content
          side={side}
          sideOffset={6}
          collisionPadding={8}
          className="appear z-50 max-w-72 rounded bg-text px-2 py-1 text-xs text-surface"
        >
          {text}
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}

export const TooltipProvider = ({ children }: { children: ReactElement }) => (
  <Radix.Provider delayDuration={400} skipDelayDuration={150}>
    {children}
  </Radix.Provider>
);
