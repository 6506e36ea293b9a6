// The part of Markdown that contracts use in descriptions: paragraphs, lists, tables, emphasis, code. Never HTML.
export type Block =
  | { kind: "paragraph" | "heading"; text: string }
  | { kind: "list"; items: readonly string[] }
  | { kind: "code"; text: string }
  | { kind: "table"; head: readonly string[]; rows: readonly (readonly string[])[] };

export function blocks(source: string): Block[] {
  const lines = source.replace(/\r\n?/g, "\n").split("\n");
  const found: Block[] = [];
  let i = 0;
  const while_ = (holds: (line: string) => boolean) => {
    const from = i;
    while (i < lines.length && holds(lines[i]!)) i++;
    return lines.slice(from, i);
  };
  while (i < lines.length) {
    const line = lines[i]!;
    if (line.trim() === "") i++;
    else if (/^\s*```/.test(line)) {
      i++;
      found.push({ kind: "code", text: while_((l) => !/^\s*```/.test(l)).join("\n") });
      i++;
    } else if (/^#{1,6}\s/.test(line)) {
      found.push({ kind: "heading", text: line.replace(/^#+\s*/, "") });
      i++;
    } else if (/^\s*\|/.test(line)) {
      const [head = [], , ...rows] = while_((l) => /^\s*\|/.test(l)).map(cells);
      found.push({ kind: "table", head, rows });
    } else if (/^\s*([-*+]|\d+[.)])\s/.test(line)) {
      const items: string[] = [];
      for (const l of while_((l) => l.trim() !== "")) {
        if (/^\s*([-*+]|\d+[.)])\s/.test(l)) items.push(l.replace(/^\s*([-*+]|\d+[.)])\s+/, ""));
        else items[items.length - 1] += ` ${l.trim()}`;
      }
      found.push({ kind: "list", items });
    } else {
      found.push({ kind: "paragraph", text: while_((l) => l.trim() !== "" && !/^\s*(\||```|#{1,6}\s)/.test(l)).map((l) => l.trim()).join(" ") });
    }
  }
  return found;
}

const cells = (line: string) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());

export interface Span {
  kind: "text" | "code" | "strong" | "emphasis";
  text: string;
}

/** A line in its spans; links show their text. */
export function spans(line: string): Span[] {
  const found: Span[] = [];
  let at = 0;
  for (const match of line.matchAll(/`([^`]+)`|\*\*([^*]+)\*\*|\*([^*\s][^*]*)\*|\[([^\]]+)\]\([^)]*\)/g)) {
    if (match.index > at) found.push({ kind: "text", text: line.slice(at, match.index) });
    if (match[1]) found.push({ kind: "code", text: match[1] });
    else if (match[2]) found.push({ kind: "strong", text: match[2] });
    else if (match[3]) found.push({ kind: "emphasis", text: match[3] });
    else found.push({ kind: "text", text: match[4]! });
    at = match.index + match[0].length;
  }
  if (at < line.length) found.push({ kind: "text", text: line.slice(at) });
  return found;
}
