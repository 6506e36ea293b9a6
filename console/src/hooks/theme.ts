import { useSyncExternalStore } from "react";

export const themes = ["system", "light", "dark"] as const;
export type Theme = (typeof themes)[number];

const key = "fieldgate.theme"; // public/theme.js reads it before the first paint
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set<() => void>();
const announce = () => listeners.forEach((listener) => listener());
dark.addEventListener("change", announce);

function chosen(): Theme {
  const theme = document.documentElement.dataset.theme;
  return theme === "light" || theme === "dark" ? theme : "system";
}

export function setTheme(theme: Theme) {
  if (theme === "system") {
    delete document.documentElement.dataset.theme;
    localStorage.removeItem(key);
  } else {
    document.documentElement.dataset.theme = theme;
    localStorage.setItem(key, theme);
  }
  announce();
}

function subscribe(listener: () => void) {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

/** The chosen theme. */
export function useTheme(): Theme {
  return useSyncExternalStore(subscribe, chosen);
}

/** The theme that is seen; charts draw anew when it changes. */
export function useSeenTheme(): "light" | "dark" {
  return useSyncExternalStore(subscribe, () => {
    const theme = chosen();
    return theme === "system" ? (dark.matches ? "dark" : "light") : theme;
  });
}

/** A token's colour as it is seen now, for canvases: `colourOf("mqtt")`. */
export function colourOf(token: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(--${token})`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}
