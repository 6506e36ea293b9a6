import { ChevronDown, Clock, Keyboard, LogOut, Pause, Play, Search, UserRound } from "lucide-react";
import { Button, IconButton } from "@/components/Button";
import { Keys, Menu, MenuChoice, MenuItem, MenuLabel, MenuLine } from "@/components/Menu";
import { Tooltip } from "@/components/Tooltip";
import { useEvents } from "@/hooks/events";
import { useStatus } from "@/hooks/status";
import { setTheme, useTheme } from "@/hooks/theme";
import { ranges, useRange } from "@/hooks/url";
import { useSession } from "@/session/session";
import { Mark } from "./Rail";

export function TopBar({ onPalette, onKeys, onSignOut }: { onPalette: () => void; onKeys: () => void; onSignOut: () => void }) {
  const status = useStatus();
  return (
    <header className="flex h-12 shrink-0 items-center gap-2 border-b border-line bg-surface px-3 lg:px-6">
      <span className="sm:hidden">
        <Mark />
      </span>
      <p className="min-w-0 truncate font-semibold" title="The node that answers">
        {status.data?.node}
      </p>
      <div className="flex-1" />
      <Button onClick={onPalette} className="justify-start! font-normal! text-quiet! max-md:hidden lg:w-64" icon={Search}>
        <span className="flex-1 text-left">Find anything</span>
        <Keys keys="mod+k" />
      </Button>
      <IconButton icon={Search} label="Find anything" onClick={onPalette} className="md:hidden" />
      <RangePicker />
      <AccountMenu onKeys={onKeys} onSignOut={onSignOut} />
    </header>
  );
}

function RangePicker() {
  const range = useRange();
  const connected = useEvents((state) => state.connected);
  return (
    <div className="flex">
      <Menu
        trigger={
          <Button className="rounded-r-none" icon={Clock}>
            <span className="sr-only">Time range: </span>
            <span className="max-md:hidden">Last {range.label}</span>
            <span className="md:hidden">{range.value}</span>
          </Button>
        }
      >
        <MenuLabel>Time range</MenuLabel>
        <MenuChoice
          label="Time range"
          value={range.value}
          options={ranges.map((r) => ({ value: r.value, label: `Last ${r.label}` }))}
          onChange={range.setRange}
        />
      </Menu>
      <Tooltip text={range.live ? "The page moves on by itself. Press p to pause." : "The page stands still. Press p to go on."}>
        <Button className="-ml-px rounded-l-none" icon={range.live ? Pause : Play} aria-pressed={range.live} aria-label="Live" onClick={() => range.setLive(!range.live)}>
          <span className="inline-flex items-center gap-1.5 max-md:hidden">
            <span className={`size-1.5 rounded-full ${range.live && connected ? "bg-good" : "bg-icon"}`} aria-hidden />
            {range.live ? "Live" : "Paused"}
          </span>
        </Button>
      </Tooltip>
    </div>
  );
}

function AccountMenu({ onKeys, onSignOut }: { onKeys: () => void; onSignOut: () => void }) {
  const session = useSession();
  const theme = useTheme();
  return (
    <Menu
      trigger={
        <Button kind="quiet" icon={UserRound} aria-label={`Account of ${session.name}`}>
          <span className="max-w-32 truncate max-lg:hidden">{session.name}</span>
          <ChevronDown size={14} className="text-icon max-lg:hidden" aria-hidden />
        </Button>
      }
    >
      <MenuLabel>
        {session.name}, {session.role}
      </MenuLabel>
      <MenuLine />
      <MenuLabel>Theme</MenuLabel>
      <MenuChoice
        label="Theme"
        value={theme}
        options={[
          { value: "system", label: "Like the system" },
          { value: "light", label: "Light" },
          { value: "dark", label: "Dark" },
        ]}
        onChange={setTheme}
      />
      <MenuLine />
      <MenuItem icon={Keyboard} keys="?" onSelect={onKeys}>
        Keys
      </MenuItem>
      <MenuItem icon={LogOut} onSelect={onSignOut}>
        Sign out
      </MenuItem>
    </Menu>
  );
}
