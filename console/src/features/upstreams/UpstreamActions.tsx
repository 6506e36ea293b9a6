import { Ellipsis, Pencil, Plus, Trash2 } from "lucide-react";
import type { SchemaTarget, SchemaUpstream } from "@/api/schema.gen";
import { Button, CommandButton } from "@/components/Button";
import { Menu, MenuItem } from "@/components/Menu";
import { useCommands, type Command } from "@/hooks/commands";
import { useMay, useSession } from "@/session/session";

export function RegisterButton({ upstream, onPress }: { upstream: SchemaUpstream; onPress: () => void }) {
  const may = useMay("targets.write");
  const { role } = useSession();
  const command: Command = {
    id: "register-address", group: "Do", label: "Register an address", icon: Plus, keys: "n",
    refused: may ? undefined : `The role ${role} may not register addresses; ask an operator or owner.`,
    run: onPress,
  };
  useCommands([{ ...command, label: `${command.label} (${upstream.name})` }]);
  return <CommandButton command={command} />;
}

/** What can be decided about a registered address, for those who may. */
export function TargetMenu({ target, onChange, onRemove }: { target: SchemaTarget; onChange: () => void; onRemove: () => void }) {
  if (!useMay("targets.write")) return null;
  return (
    <Menu trigger={<Button kind="quiet" icon={Ellipsis} aria-label={`What can be decided about ${target.address}`} className="px-2!" />}>
      <MenuItem icon={Pencil} onSelect={onChange}>Change</MenuItem>
      <MenuItem icon={Trash2} onSelect={onRemove}>Remove</MenuItem>
    </Menu>
  );
}
