import { Check, Plus } from "lucide-react";
import { Field, Input } from "@/components/Field";
import { useKnownScopes } from "./api";
import { parseScopes, toggleScope } from "./scopes";

/** The scopes of an app: typed, or taken from those that contracts ask for. */
export function ScopesField({ value, onChange }: { value: string; onChange: (value: string) => void }) {
  const known = useKnownScopes();
  const chosen = parseScopes(value);
  return (
    <div className="flex flex-col gap-2">
      <Field label="Scopes" optional hint="What it may do. Separate them by spaces.">
        <Input value={value} className="font-mono text-xs!" onChange={(e) => onChange(e.target.value)} />
      </Field>
      {known.data && known.data.length > 0 && (
        <div role="group" aria-label="Scopes that contracts ask for" className="flex flex-col gap-1">
          <p className="text-xs text-quiet">Contracts ask for these:</p>
          <ul className="flex max-h-48 flex-col overflow-y-auto rounded border border-line">
            {known.data.map(({ scope, operations }) => {
              const has = chosen.includes(scope);
              return (
                <li key={scope} className="border-t border-line first:border-t-0">
                  <button type="button" aria-pressed={has} className="flex w-full items-center gap-2 px-2 py-1.5 text-left hover:bg-hover focus-visible:outline-offset-[-2px]" onClick={() => onChange(toggleScope(value, scope))}>
                    {has ? <Check size={14} className="shrink-0 text-accent" aria-hidden /> : <Plus size={14} className="shrink-0 text-icon" aria-hidden />}
                    <code>{scope}</code>
                    <span className="min-w-0 flex-1 truncate text-right text-xs text-quiet" title={operations.join(", ")}>{operations.join(", ")}</span>
                  </button>
                </li>
              );
            })}
          </ul>
        </div>
      )}
    </div>
  );
}
