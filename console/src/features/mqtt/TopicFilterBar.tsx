import { Search } from "lucide-react";
import { useEffect, useId, useRef, useState, type FormEvent, type ReactNode } from "react";
import { Button } from "@/components/Button";
import { Input } from "@/components/Field";
import { useHotkeys } from "@/hooks/hotkeys";
import { wrongFilter } from "./words";

/** The MQTT topic filter of a list, which takes effect with Enter. */
export function TopicFilterBar({ text, onChange, action, children }: { text: string; onChange: (text: string) => void; action: string; children?: ReactNode }) {
  const id = useId();
  const input = useRef<HTMLInputElement>(null);
  const [typed, setTyped] = useState(text);
  useEffect(() => setTyped(text), [text]);
  useHotkeys([{ keys: "/", label: "Write a topic filter", run: () => input.current?.focus() }]);
  const wrong = wrongFilter(typed);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (!wrong) onChange(typed.trim());
  };
  return (
    <form onSubmit={submit} className="flex shrink-0 flex-col gap-1" noValidate>
      <div className="flex flex-wrap gap-2">
        <label htmlFor={id} className="sr-only">Topic filter</label>
        <Input
          ref={input}
          id={id}
          value={typed}
          maxLength={4096}
          onChange={(e) => setTyped(e.target.value)}
          placeholder="Topic filter, such as plant/+/state or plant/#; all topics without one"
          className="min-w-0 flex-[1_1_240px] font-mono"
          autoCapitalize="off"
          autoComplete="off"
          spellCheck={false}
          aria-invalid={wrong ? true : undefined}
          aria-describedby={wrong ? `${id}-wrong` : undefined}
        />
        <Button type="submit" icon={Search}>{action}</Button>
        {children}
      </div>
      {wrong && <p id={`${id}-wrong`} className="text-xs text-bad">{wrong}</p>}
    </form>
  );
}
