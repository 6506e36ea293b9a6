/**
 * Takes the one-time token of a sign-in link out of the address, and the address out of the history; empty when there is none. It
 * travels in the URL's fragment, which no server and no log sees.
 */
export function takeLinkToken(): string {
  const token = new URLSearchParams(window.location.hash.slice(1)).get("token") ?? "";
  if (token) window.history.replaceState(null, "", window.location.pathname + window.location.search);
  return token;
}
