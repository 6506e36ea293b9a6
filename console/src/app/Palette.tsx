import { Command } from "cmdk";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Boxes, Cpu, Search, SquareTerminal } from "lucide-react";
import { useState, type ReactNode } from "react";
import { useLocation } from "wouter";
import { read } from "@/api/client";
import { Dialog } from "@/components/Dialog";
import { Keys } from "@/components/Menu";
import { useAllCommands } from "@/hooks/commands";
import { useHref } from "@/hooks/url";

const groups = ["Go to", "Do", "View"] as const;
const most = 6;

/** Finds every command, and APIs, devices and apps by their names. */
export default function Palette({ onClose }: { onClose: () => void }) {
  const [search, setSearch] = useState("");
  const [, navigate] = useLocation();
  const href = useHref();
  const typed = search.toLowerCase().split(/\s+/);
  const commands = useAllCommands().filter((c) => c.id !== "palette" && typed.every((word) => `${c.label} ${c.words ?? ""}`.toLowerCase().includes(word)));
  const found = useObjects(search.trim());
  const run = (act: () => void) => {
    onClose();
    act();
  };
  return (
    <Dialog open onClose={onClose} title="Find anything" hideTitle width="wide">
      <Command shouldFilter={false} label="Find anything" className="flex min-h-0 flex-col" loop>
        <div className="flex items-center gap-2.5 border-b border-line px-4">
          <Search size={16} className="text-icon" aria-hidden />
          <Command.Input
            value={search}
            onValueChange={setSearch}
            autoFocus
            placeholder="A page, a command, an API, a device, an app"
            className="h-12 flex-1 bg-transparent text-base outline-none"
          />
        </div>
        <Command.List className="min-h-0 overflow-y-auto p-2 [&_[cmdk-group-heading]]:px-2 [&_[cmdk-group-heading]]:pt-2 [&_[cmdk-group-heading]]:pb-1 [&_[cmdk-group-heading]]:text-xs [&_[cmdk-group-heading]]:text-quiet">
          <Command.Empty className="px-2 py-6 text-center text-quiet">Nothing is called so.</Command.Empty>
          {groups.map((group) => {
            const of = commands.filter((c) => c.group === group);
            if (of.length === 0) return null;
            return (
              <Command.Group key={group} heading={group}>
                {of.map(({ id, label, icon: Icon, keys, refused, run: act }) => (
                  <Item key={id} value={id} disabled={refused !== undefined} onSelect={() => run(act)}>
                    {Icon ? <Icon size={16} className="text-icon" aria-hidden /> : <span className="w-4" />}
                    <span className="flex-1 truncate">{label}</span>
                    {refused ? <span className="truncate text-xs text-quiet">{refused}</span> : keys && <Keys keys={keys} />}
                  </Item>
                ))}
              </Command.Group>
            );
          })}
          {found.map(({ heading, icon: Icon, path, items }) =>
            items.length === 0 ? null : (
              <Command.Group key={heading} heading={heading}>
                {items.map((name) => (
                  <Item key={name} value={`${heading} ${name}`} onSelect={() => run(() => navigate(href(`${path}/${encodeURIComponent(name)}`)))}>
                    <Icon size={16} className="text-icon" aria-hidden />
                    <span className="truncate font-mono">{name}</span>
                  </Item>
                ))}
              </Command.Group>
            ),
          )}
        </Command.List>
      </Command>
    </Dialog>
  );
}

function Item(props: { value: string; disabled?: boolean; onSelect: () => void; children: ReactNode }) {
  return (
    <Command.Item
      {...props}
      className="flex h-9 items-center gap-2.5 rounded px-2 data-[disabled=true]:opacity-55 data-[selected=true]:bg-pressed"
    />
  );
}

/** What is called so, by each list's own search. */
function useObjects(search: string) {
  const filter = search.includes(":") || search.includes('"') ? "" : search;
  const { data } = useQuery({
    queryKey: ["palette", filter],
    enabled: filter.length > 1,
    placeholderData: keepPreviousData,
    queryFn: async ({ signal }) => {
      const query = { filter: filter.split(/\s+/).join(" "), limit: most };
      const [apis, devices, apps] = await Promise.all([
        read("/api/v1/apis", { query, signal }),
        read("/api/v1/devices", { query, signal }),
        read("/api/v1/apps", { query, signal }),
      ]);
      return [
        { heading: "APIs", icon: Boxes, path: "/apis", items: apis.items.map((a) => a.name) },
        { heading: "Devices", icon: Cpu, path: "/devices", items: devices.items.map((d) => d.id) },
        { heading: "Apps", icon: SquareTerminal, path: "/apps", items: apps.items.map((a) => a.id) },
      ];
    },
  });
  return filter.length > 1 ? (data ?? []) : [];
}
