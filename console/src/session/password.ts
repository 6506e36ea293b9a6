export const passwordHint = "At least 12 characters. A few words in a row are easy to keep.";

/** What is wrong with a new password and its repetition, before it is sent. */
export function checkPassword(password: string, again: string): { password?: string; again?: string } | undefined {
  if ([...password].length < 12) return { password: "At least 12 characters are needed." };
  return password === again ? undefined : { again: "The two are not the same." };
}
