/** The scopes of a text field: separated by spaces or commas, each once. */
export function parseScopes(text: string): string[] {
  return [...new Set(text.split(/[\s,]+/).filter((scope) => scope !== ""))];
}

/** The text with a scope added, or taken out when it is there. */
export function toggleScope(text: string, scope: string): string {
  const scopes = parseScopes(text);
  return (scopes.includes(scope) ? scopes.filter((s) => s !== scope) : [...scopes, scope]).join(" ");
}
