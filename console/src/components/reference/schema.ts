// A JSON Schema (draft 2020-12, as OpenAPI 3.1 and AsyncAPI 3 use it, and OpenAPI 3.0's) as a tree that people can open.
import { list, nameOf, object, resolve, show, text, type Json } from "./json";

export interface SchemaNode {
  /** Of the member; what part of the whole it is where it has no name, such as "one of". */
  name: string;
  /** Whether `name` is a member's own, not a word of ours. */
  member: boolean;
  type: string;
  /** The component that describes it, such as Telemetry. */
  component: string;
  required: boolean;
  deprecated: boolean;
  description: string;
  /** Each bound as a phrase: "-60 to 125", "at most 64 characters". */
  limits: readonly string[];
  values: readonly string[];
  example: string;
  /** Words of Fieldgate, such as x-cbor-key. */
  words: readonly (readonly [name: string, value: string])[];
  /** What it consists of; read only when it is opened, because a schema may hold itself. */
  children: () => readonly SchemaNode[];
  hasChildren: boolean;
}

interface Place {
  name: string;
  member?: boolean;
  required?: boolean;
}

export function schemaNode(document: Json, value: unknown, { name, member = false, required = false }: Place = { name: "" }): SchemaNode {
  const schema = resolve(document, value);
  const items = schema.items === undefined ? undefined : resolve(document, schema.items);
  const parts = childrenOf(document, schema);
  // The members of an array's items stand directly below the array.
  const below = parts.length === 0 && items ? childrenOf(document, items) : parts;
  return {
    name,
    member,
    type: typeOf(document, schema, value),
    component: nameOf(value) || nameOf(schema.items),
    required,
    deprecated: schema.deprecated === true,
    description: text(schema.description) || text(object(value).description) || text(items?.description),
    limits: [...limitsOf(schema), ...(items ? limitsOf(items).map((limit) => `each ${limit}`) : [])],
    values: [...valuesOf(schema), ...(items ? valuesOf(items) : [])],
    example: exampleOf(schema),
    words: Object.entries(schema).flatMap(([key, v]) => (key.startsWith("x-") && key !== "x-ref" && !goWords.test(key) ? [[key, show(v)] as const] : [])),
    children: () => below.map(([place, child]) => schemaNode(document, child, place)),
    hasChildren: below.length > 0,
  };
}

const goWords = /^x-(go-|enum-varnames)/; // how a program names it, which tells a caller nothing

function childrenOf(document: Json, schema: Json): (readonly [Place, unknown])[] {
  const required = new Set(list(schema.required).map(show));
  const found: (readonly [Place, unknown])[] = [];
  for (const [name, child] of Object.entries(object(schema.properties))) found.push([{ name, member: true, required: required.has(name) }, child]);
  for (const [pattern, child] of Object.entries(object(schema.patternProperties))) found.push([{ name: `members like ${pattern}` }, child]);
  if (Object.keys(object(schema.additionalProperties)).length > 0) found.push([{ name: "any other member" }, schema.additionalProperties]);
  list(schema.prefixItems).forEach((child, i) => found.push([{ name: `item ${i + 1}` }, child]));
  for (const [word, name] of [["allOf", "all of"], ["oneOf", "one of"], ["anyOf", "any of"]] as const) {
    for (const child of list(schema[word])) found.push([{ name }, child]);
  }
  for (const [word, name] of [["not", "not"], ["if", "if"], ["then", "then"], ["else", "else"], ["contains", "contains"], ["propertyNames", "names"]] as const) {
    if (Object.keys(object(schema[word])).length > 0) found.push([{ name }, schema[word]]);
  }
  // An array of arrays, or of alternatives.
  const items = resolve(document, schema.items);
  if (items.items !== undefined && found.length === 0) found.push([{ name: "each item" }, schema.items]);
  return found;
}

/** `depth` ends arrays of themselves. */
function typeOf(document: Json, schema: Json, value: unknown, depth = 0): string {
  if (value === true) return "anything";
  if (value === false) return "nothing";
  const types = Array.isArray(schema.type) ? schema.type.map(show) : schema.type ? [show(schema.type)] : [];
  if (schema.nullable === true && !types.includes("null")) types.push("null");
  if (types.length === 0) {
    if (schema.properties || schema.additionalProperties) types.push("object");
    else if (schema.items) types.push("array");
    else if (schema.oneOf || schema.anyOf) types.push("one of several");
    else if ("const" in schema) types.push(typeof schema.const);
    else if (schema.enum) types.push(typeof list(schema.enum)[0]);
    else if (schema.allOf) types.push("all of several");
    else return Object.keys(schema).length === 0 ? "anything" : "any type";
  }
  const words = types.map((type) => (type === "array" && schema.items !== undefined && depth < 4 ? `array of ${typeOf(document, resolve(document, schema.items), schema.items, depth + 1)}` : type));
  const format = text(schema.format);
  return words.join(" or ") + (format ? `, ${format}` : "");
}

function limitsOf(schema: Json): string[] {
  const between = (least: unknown, most: unknown, unit: string) => {
    if (least === undefined && most === undefined) return [];
    if (least === most) return [`exactly ${show(least)} ${unit}`];
    if (least === undefined || least === 0) return most === undefined ? [] : [`at most ${show(most)} ${unit}`];
    return most === undefined ? [`at least ${show(least)} ${unit}`] : [`${show(least)} to ${show(most)} ${unit}`];
  };
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf, pattern } = schema;
  const limits: string[] = [];
  // OpenAPI 3.0 says exclusiveMinimum: true.
  const above = exclusiveMinimum === true ? minimum : typeof exclusiveMinimum === "number" ? exclusiveMinimum : undefined;
  const below = exclusiveMaximum === true ? maximum : typeof exclusiveMaximum === "number" ? exclusiveMaximum : undefined;
  if (above !== undefined) limits.push(`more than ${show(above)}`);
  else if (minimum !== undefined && maximum !== undefined && below === undefined) limits.push(`${show(minimum)} to ${show(maximum)}`);
  else if (minimum !== undefined) limits.push(`at least ${show(minimum)}`);
  if (below !== undefined) limits.push(`less than ${show(below)}`);
  else if (maximum !== undefined && (minimum === undefined || above !== undefined)) limits.push(`at most ${show(maximum)}`);
  if (multipleOf !== undefined) limits.push(`a multiple of ${show(multipleOf)}`);
  limits.push(...between(schema.minLength, schema.maxLength, "characters"), ...between(schema.minItems, schema.maxItems, "items"), ...between(schema.minProperties, schema.maxProperties, "members"));
  if (schema.uniqueItems === true) limits.push("no two alike");
  if (pattern !== undefined) limits.push(`matches ${show(pattern)}`);
  if (schema.additionalProperties === false || schema.unevaluatedProperties === false) limits.push("no other members");
  if (schema.default !== undefined) limits.push(`${show(schema.default)} by default`);
  if (schema.readOnly === true) limits.push("only in answers");
  if (schema.writeOnly === true) limits.push("only in requests");
  return limits;
}

function valuesOf(schema: Json): string[] {
  if ("const" in schema) return [show(schema.const)];
  return list(schema.enum).map(show);
}

function exampleOf(schema: Json): string {
  const example = schema.example ?? list(schema.examples)[0];
  return example === undefined ? "" : show(example);
}
