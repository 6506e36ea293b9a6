// The exchanges of the list that one came from, so that its page can be walked like the list.
let listed: readonly string[] = [];

export function rememberList(instances: readonly string[]) {
  listed = instances;
}

export function neighbour(instance: string, by: 1 | -1): string | undefined {
  const at = listed.indexOf(instance);
  return at < 0 ? undefined : listed[at + by];
}
