// The filter grammar, the same in the URL, the admin API's `filter` parameter and the command line: terms separated by spaces,
// each `key:value` (`key:a,b` for either, `key:pump-*` for a beginning) or a bare word, with a leading `-` to exclude, and double
// quotes around values with spaces.

export interface Term {
  key: string; // empty for a bare word
  value: string;
  negated: boolean;
}

/** What a list can be filtered by. */
export interface FilterField {
  key: string;
  help: string;
  /** The values there are, when they are few. */
  values?: readonly string[];
}

export interface Suggestion {
  /** The whole text of the field once this is taken. */
  text: string;
  /** Where the caret goes. */
  caret: number;
  label: string;
  help: string;
}

interface Token {
  text: string;
  start: number;
  end: number;
}

/** Tokens at spaces that are not quoted. An open quote runs to the end, as it does while one types. */
function tokens(text: string): Token[] {
  const found: Token[] = [];
  let start = -1;
  let quoted = false;
  for (let i = 0; i <= text.length; i++) {
    const c = text[i];
    if (c === undefined || (c === " " && !quoted)) {
      if (start >= 0) found.push({ text: text.slice(start, i), start, end: i });
      start = -1;
      continue;
    }
    if (start < 0) start = i;
    if (c === "\\" && quoted) i++;
    else if (c === '"') quoted = !quoted;
  }
  return found;
}

function term(text: string): Term {
  const negated = text.length > 1 && text.startsWith("-");
  const rest = negated ? text.slice(1) : text;
  const colon = /^[A-Za-z]+:/.exec(rest);
  const key = colon ? colon[0].slice(0, -1) : "";
  return { key, value: unquote(colon ? rest.slice(colon[0].length) : rest), negated };
}

function unquote(text: string): string {
  if (!text.startsWith('"')) return text;
  return text.slice(1).replace(/(?<!\\)"$/, "").replace(/\\(.)/g, "$1");
}

function quote(value: string): string {
  return value === "" || /[\s"\\]/.test(value) ? `"${value.replace(/[\\"]/g, "\\$&")}"` : value;
}

export function parseFilter(text: string): Term[] {
  return tokens(text).map((token) => term(token.text));
}

export function formatFilter(terms: readonly Term[]): string {
  return terms.map((t) => (t.negated ? "-" : "") + (t.key ? `${t.key}:` : "") + quote(t.value)).join(" ");
}

/** The filter with this key set to one value, or without the key when the value is empty. */
export function withTerm(text: string, key: string, value: string): string {
  const others = parseFilter(text).filter((t) => t.key !== key);
  return formatFilter(value ? [...others, { key, value, negated: false }] : others);
}

/** The value of a key, when the filter asks for exactly one. */
export function valueOf(text: string, key: string): string | undefined {
  const of = parseFilter(text).filter((t) => t.key === key && !t.negated);
  return of.length === 1 ? of[0]?.value : undefined;
}

/** The filter with the page's time range, unless it names a time of its own. */
export function withRange(text: string, range: string): string {
  return parseFilter(text).some((t) => t.key === "since") ? text : withTerm(text, "since", range);
}

/** What is wrong with a filter for a list that has these fields: one sentence, or undefined. */
export function checkFilter(text: string, fields: readonly FilterField[]): string | undefined {
  for (const { key, value } of parseFilter(text)) {
    if (!key) continue;
    const field = fields.find((f) => f.key === key);
    if (!field) return `There is no "${key}" here; this list knows ${fields.map((f) => f.key).join(", ")}.`;
    const { values } = field;
    if (values && value && !value.split(",").every((v) => v === "" || v.endsWith("*") || values.includes(v))) {
      return `"${key}" is one of ${values.join(", ")}.`;
    }
  }
  return undefined;
}

/** What can stand where the caret is. */
export function complete(text: string, caret: number, fields: readonly FilterField[]): Suggestion[] {
  const token = tokens(text).find((t) => t.start < caret && caret <= t.end) ?? { text: "", start: caret, end: caret };
  const typed = text.slice(token.start, caret);
  const minus = typed.startsWith("-") ? "-" : "";
  const word = typed.slice(minus.length);
  const colon = word.indexOf(":");
  const replace = (by: string, gap: string): Pick<Suggestion, "text" | "caret"> => {
    const rest = text.slice(token.end).trimStart();
    const head = text.slice(0, token.start) + minus + by;
    return { text: head + (rest ? ` ${rest}` : gap), caret: head.length + (gap || rest ? gap.length : 0) };
  };
  if (colon < 0) {
    return fields
      .filter((f) => f.key.startsWith(word.toLowerCase()))
      .map((f) => ({ ...replace(`${f.key}:`, ""), label: `${minus}${f.key}:`, help: f.help }));
  }
  const field = fields.find((f) => f.key === word.slice(0, colon));
  const comma = Math.max(colon, word.lastIndexOf(","));
  const start = word.slice(comma + 1);
  return (field?.values ?? [])
    .filter((v) => v.toLowerCase().startsWith(start.toLowerCase()) && v !== start)
    .map((v) => ({ ...replace(word.slice(0, comma + 1) + quote(v), " "), label: v, help: "" }));
}
