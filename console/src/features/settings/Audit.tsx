import { AuditList } from "@/components/AuditList";
import { FilterBar } from "@/components/FilterBar";
import { useFilter } from "@/hooks/url";
import type { FilterField } from "@/lib/filter";
import { useAudit } from "./api";

const fields: readonly FilterField[] = [
  { key: "actor", help: "who decided" },
  { key: "action", help: "such as device.* or api.publish" },
  { key: "target", help: "what it was about, such as thermo*" },
  { key: "since", help: "not older than, such as 24h or 7d" },
];

/** Who decided what, newest first. */
export function Audit() {
  const { text, setText } = useFilter();
  const pages = useAudit(text);
  return (
    <div className="flex flex-col gap-3">
      <FilterBar fields={fields} text={text} onChange={setText} placeholder="Filter: actor:ana action:device.* since:7d" />
      <AuditList pages={pages} none={text ? "No decision fits. Loosen the filter." : "Nothing was decided yet."} />
    </div>
  );
}
