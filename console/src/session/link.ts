/** The one-time token of a sign-in link, until it was used. It travels in the URL's fragment, which no server and no log sees. */
export interface LinkToken {
  current: string;
}

/** Takes the token out of the address, and the address out of the history. */
export function takeLinkToken(): LinkToken {
  const token = new URLSearchParams(window.location.hash.slice(1)).get("token") ?? "";
  if (token) window.history.replaceState(null, "", window.location.pathname + window.location.search);
  return { current: token };
}
