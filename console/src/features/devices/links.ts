/** The links of a document in link format (RFC 6690), one by one; commas within quotes stay. */
export function linksOf(document: string): string[] {
  const links: string[] = [];
  let quoted = false;
  let begin = 0;
  for (let i = 0; i < document.length; i++) {
    const c = document[i];
    if (quoted && c === "\\") i++;
    else if (c === '"') quoted = !quoted;
    else if (c === "," && !quoted) {
      links.push(document.slice(begin, i).trim());
      begin = i + 1;
    }
  }
  links.push(document.slice(begin).trim());
  return links.filter((link) => link !== "");
}

/** "2 d 3 h", "59 min", "20 s". */
export function duration(seconds: number): string {
  const days = Math.floor(seconds / 86400);
  const hours = Math.floor((seconds % 86400) / 3600);
  const minutes = Math.floor((seconds % 3600) / 60);
  if (days > 0) return hours > 0 ? `${days} d ${hours} h` : `${days} d`;
  if (hours > 0) return minutes > 0 ? `${hours} h ${minutes} min` : `${hours} h`;
  return minutes > 0 ? `${minutes} min` : `${seconds} s`;
}
