import type { SchemaAuditEntry } from "@/api/schema.gen";
import type { Difference } from "@/lib/difference";
import { ToneIcon } from "./Badge";
import { Button } from "./Button";
import { RelativeTime } from "./values";

/** Somebody else was faster (412): shows what differs and offers to apply one's own change to what is there now. */
export function ChangedMeanwhile({ rows, changes, busy, onApply }: {
  rows: readonly Difference[];
  changes?: readonly SchemaAuditEntry[];
  busy?: boolean;
  onApply: () => void;
}) {
  const last = changes?.[0];
  return (
    <div role="alert" className="flex flex-col gap-2 rounded border border-line-strong bg-warning-tint px-3 py-2.5">
      <p className="flex items-start gap-2 font-medium">
        <span className="mt-px"><ToneIcon tone="warning" /></span>
        <span>
          Somebody else changed it while you wrote; yours is not applied.
          {last && (
            <span className="font-normal text-soft">
              {" "}
              {last.actor}, <RelativeTime time={last.time} />.
            </span>
          )}
        </span>
      </p>
      <div className="overflow-x-auto">
        <table className="w-full text-left">
          <thead>
            <tr className="text-xs text-quiet">
              <th scope="col" className="py-0.5 pr-3 font-medium">Field</th>
              <th scope="col" className="py-0.5 pr-3 font-medium">You saw</th>
              <th scope="col" className="py-0.5 pr-3 font-medium">Now</th>
              <th scope="col" className="py-0.5 font-medium">With yours</th>
            </tr>
          </thead>
          <tbody>
            {rows.map(({ field, seen, now, mine }) => (
              <tr key={field}>
                <th scope="row" className="py-0.5 pr-3 font-normal text-soft">{field}</th>
                {[seen, now, mine].map((value, i) => (
                  <td key={i} className="py-0.5 pr-3"><code>{value || "none"}</code></td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <div>
        <Button busy={busy} onClick={onApply}>Apply mine to how it is now</Button>
      </div>
    </div>
  );
}
