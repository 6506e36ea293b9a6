export const passwordHint = "At least 12 characters. A few words in a row are easy to keep.";

/** What is wrong with a new password, before it is sent. */
export function checkPassword(password: string, again: string): string | undefined {
  if ([...password].length < 12) return "At least 12 characters are needed.";
  return password === again ? undefined : "The two are not the same.";
}
