import { lazy, Suspense, useMemo, useState } from "react";
import { Command as CommandIcon, Keyboard, LogOut, Moon, Monitor, Sun } from "lucide-react";
import { Redirect, Route, Switch, useLocation } from "wouter";
import { EmptyState } from "@/components/EmptyState";
import { ErrorBoundary } from "@/components/ErrorBoundary";
import { Page } from "@/components/Page";
import { useCommands, type Command } from "@/hooks/commands";
import { showKeys } from "@/hooks/hotkeys";
import { setTheme, useTheme } from "@/hooks/theme";
import { useHref, useRange } from "@/hooks/url";
import { useSession, useSignOut } from "@/session/session";
import { Banners } from "./Banners";
import { pages } from "./pages";
import { Rail } from "./Rail";
import { TopBar } from "./TopBar";

const Palette = lazy(() => import("./Palette"));
const HotkeyList = lazy(() => import("./HotkeyList"));
const ClaimDialog = lazy(() => import("@/features/sign-in/ClaimDialog"));

/** What is around every page: rail, top bar, banners, palette, and the commands that work everywhere. */
export function Frame() {
  const [overlay, setOverlay] = useState<"palette" | "keys" | "claim">();
  const [path, navigate] = useLocation();
  const href = useHref();
  const theme = useTheme();
  const range = useRange();
  const session = useSession();
  const signOut = useSignOut();

  const commands: Command[] = [
    ...pages.map((p): Command => ({ id: `go${p.path}`, group: "Go to", label: p.label, icon: p.icon, keys: p.keys, run: () => navigate(href(p.path)) })),
    { id: "palette", group: "View", label: "Find anything", icon: CommandIcon, keys: "mod+k", run: () => setOverlay("palette") },
    { id: "keys", group: "View", label: "Show the keys", icon: Keyboard, keys: "?", run: () => setOverlay("keys") },
    { id: "live", group: "View", label: range.live ? "Pause the live figures" : "Go on live", keys: "p", run: () => range.setLive(!range.live) },
    ...([["light", "Light theme", Sun], ["dark", "Dark theme", Moon], ["system", "Theme of the system", Monitor]] as const)
      .filter(([name]) => name !== theme)
      .map(([name, label, icon]): Command => ({ id: `theme-${name}`, group: "View", label, icon, words: "colour mode appearance", run: () => setTheme(name) })),
    { id: "sign-out", group: "Do", label: `Sign out ${session.name}`, icon: LogOut, run: () => signOut.mutate() },
  ];
  useCommands(commands);
  const close = () => setOverlay(undefined);
  const routes = useMemo(() => pages.flatMap((p) => p.routes), []);

  return (
    <div className="flex h-dvh flex-col-reverse sm:flex-row">
      <a href="#main" className="fixed top-2 left-2 z-50 -translate-y-16 rounded bg-accent-solid px-3 py-1.5 text-on-accent focus:translate-y-0">
        Skip to the page
      </a>
      <Rail />
      <div className="flex min-h-0 min-w-0 flex-1 flex-col">
        <TopBar onPalette={() => setOverlay("palette")} onKeys={() => setOverlay("keys")} onSignOut={() => signOut.mutate()} />
        <Banners onClaim={() => setOverlay("claim")} />
        <main id="main" tabIndex={-1} className="relative min-h-0 flex-1 outline-none">
          <ErrorBoundary key={path}>
            <Suspense>
              <Switch>
                {routes.map(({ path, page }) => (
                  <Route key={path} path={path} component={page} />
                ))}
                <Route path="/sign-in">
                  <Redirect to="/" replace />
                </Route>
                <Route>
                  <Page title="Not found" sentence="There is no such page.">
                    <EmptyState title="The address may be old or mistyped.">
                      <p className="text-soft">Choose a page in the rail, or press {showKeys("mod+k")} to find something by its name.</p>
                    </EmptyState>
                  </Page>
                </Route>
              </Switch>
            </Suspense>
          </ErrorBoundary>
        </main>
      </div>
      <Suspense>
        {overlay === "palette" && <Palette onClose={close} />}
        {overlay === "keys" && <HotkeyList onClose={close} />}
        {overlay === "claim" && <ClaimDialog onClose={close} />}
      </Suspense>
    </div>
  );
}
