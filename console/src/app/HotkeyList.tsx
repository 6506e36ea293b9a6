import { Dialog, DialogBody } from "@/components/Dialog";
import { Keys } from "@/components/Menu";
import { activeHotkeys } from "@/hooks/hotkeys";

/** The keys that work on this page. */
export default function HotkeyList({ onClose }: { onClose: () => void }) {
  const seen = new Set<string>();
  const keys = activeHotkeys().filter((h) => !seen.has(h.keys) && seen.add(h.keys));
  return (
    <Dialog open onClose={onClose} title="Keys">
      <DialogBody reading="Keys">
        <ul className="flex flex-col">
          {keys.map((h) => (
            <li key={h.keys} className="flex h-9 items-center justify-between border-b border-line last:border-0">
              <span>{h.label}</span>
              <span className="sr-only">{h.keys}</span>
              <Keys keys={h.keys} />
            </li>
          ))}
        </ul>
      </DialogBody>
    </Dialog>
  );
}
