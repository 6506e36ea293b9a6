// The pages of the console: where they are, what they are called, by which keys one gets there, and their code, which loads when
// they are first opened.
import { Activity, type LucideIcon } from "lucide-react";
import { lazy, type ComponentType } from "react";

export interface PageEntry {
  /** Of the rail and palette; the first is that of the main page. */
  path: string;
  label: string;
  icon: LucideIcon;
  keys: string;
  /** At the foot of the rail. */
  foot?: boolean;
  routes: readonly { path: string; page: ComponentType }[];
}

export const pages: readonly PageEntry[] = [
  {
    path: "/",
    label: "Now",
    icon: Activity,
    keys: "g n",
    routes: [{ path: "/", page: lazy(() => import("@/features/now/NowPage")) }],
  },
];
