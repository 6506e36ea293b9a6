import { ListFilter, X } from "lucide-react";
import { useEffect, useId, useRef, useState, type KeyboardEvent } from "react";
import { useHotkeys } from "@/hooks/hotkeys";
import { checkFilter, complete, type FilterField, type Suggestion } from "@/lib/filter";
import { IconButton } from "./Button";
import { classes } from "./class";

/**
 * The filter of a list: one text field that completes keys and values. What is typed takes effect after a moment, or at once with
 * Enter; what the list does not know is said below and not sent.
 */
export function FilterBar({ fields, text, onChange, placeholder, label = "Filter" }: {
  fields: readonly FilterField[];
  text: string;
  onChange: (text: string, options?: { replace?: boolean }) => void;
  placeholder: string;
  label?: string;
}) {
  const id = useId();
  const input = useRef<HTMLInputElement>(null);
  const [typed, setTyped] = useState(text);
  const [caret, setCaret] = useState(0);
  const [offering, setOffering] = useState(false);
  const [chosen, setChosen] = useState(-1);
  useEffect(() => setTyped(text), [text]);
  useHotkeys([{ keys: "/", label: "Filter the list", run: () => input.current?.focus() }]);

  const wrong = checkFilter(typed, fields);
  const suggestions = offering ? complete(typed, caret, fields).slice(0, 12) : [];
  useEffect(() => {
    if (typed === text || wrong || /:$/.test(typed)) return;
    const timer = setTimeout(() => onChange(typed.trim(), { replace: true }), 350);
    return () => clearTimeout(timer);
  }, [typed, text, wrong, onChange]);

  const write = (next: string, at: number) => {
    setTyped(next);
    setCaret(at);
    setChosen(-1);
    setOffering(true);
  };
  const take = (suggestion: Suggestion) => {
    write(suggestion.text, suggestion.caret);
    requestAnimationFrame(() => input.current?.setSelectionRange(suggestion.caret, suggestion.caret));
  };
  const press = (event: KeyboardEvent) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (suggestions.length === 0) return setOffering(true);
      event.preventDefault();
      const by = event.key === "ArrowDown" ? 1 : -1;
      setChosen((chosen + by + suggestions.length + (chosen < 0 && by < 0 ? 1 : 0)) % suggestions.length);
    } else if ((event.key === "Enter" || event.key === "Tab") && suggestions[chosen]) {
      event.preventDefault();
      take(suggestions[chosen]);
    } else if (event.key === "Enter") {
      setOffering(false);
      if (!wrong) onChange(typed.trim());
    } else if (event.key === "Escape") {
      if (suggestions.length > 0) setOffering(false);
      else input.current?.blur();
    }
  };

  return (
    <div className="relative">
      <div className="flex h-8 items-center rounded border border-control bg-surface pl-2 focus-within:outline-2 focus-within:outline-accent hover:border-icon">
        <ListFilter size={16} className="shrink-0 text-icon" aria-hidden />
        <input
          ref={input}
          role="combobox"
          aria-label={label}
          aria-expanded={suggestions.length > 0}
          aria-controls={`${id}-list`}
          aria-autocomplete="list"
          aria-activedescendant={suggestions[chosen] ? `${id}-${chosen}` : undefined}
          aria-invalid={wrong ? true : undefined}
          aria-describedby={wrong ? `${id}-wrong` : undefined}
          value={typed}
          placeholder={placeholder}
          autoComplete="off"
          spellCheck={false}
          className="h-full min-w-0 flex-1 bg-transparent px-2 font-mono text-xs outline-none placeholder:font-sans placeholder:text-sm"
          onChange={(e) => write(e.target.value, e.target.selectionStart ?? e.target.value.length)}
          onSelect={(e) => setCaret(e.currentTarget.selectionStart ?? 0)}
          onFocus={() => setOffering(true)}
          onBlur={() => setOffering(false)}
          onKeyDown={press}
        />
        {typed && <IconButton icon={X} label="Clear the filter" className="h-7!" onClick={() => { setTyped(""); onChange(""); input.current?.focus(); }} />}
      </div>
      <ul
        id={`${id}-list`}
        role="listbox"
        aria-label="Suggestions"
        hidden={suggestions.length === 0}
        className="absolute top-9 left-0 z-30 max-h-80 min-w-72 overflow-y-auto rounded border border-line-strong bg-surface p-1 shadow-float"
      >
        {suggestions.map((suggestion, i) => (
          <li
            key={suggestion.label}
            id={`${id}-${i}`}
            role="option"
            aria-selected={i === chosen}
            className={classes("flex h-7 items-center gap-3 rounded-sm px-2", i === chosen ? "bg-pressed" : "hover:bg-hover")}
            onPointerDown={(e) => {
              e.preventDefault();
              take(suggestion);
            }}
          >
            <code>{suggestion.label}</code>
            <span className="truncate text-xs text-quiet">{suggestion.help}</span>
          </li>
        ))}
      </ul>
      {wrong && (
        <p id={`${id}-wrong`} role="status" className="mt-1 text-xs text-bad">
          {wrong}
        </p>
      )}
    </div>
  );
}
