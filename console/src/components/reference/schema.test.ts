import { describe, expect, it } from "vitest";
import { schemaNode } from "./schema";

const tree = (schema: unknown, document = {}) => schemaNode(document, schema);

describe("schemaNode", () => {
  it("tells members, which are required, and their bounds", () => {
    const node = tree({
      type: "object", additionalProperties: false, required: ["temp"],
      properties: { temp: { type: "number", minimum: -60, maximum: 125, "x-cbor-key": 3 }, pos: { type: ["string", "null"], maxLength: 12, pattern: "^x" } },
    });
    expect(node.limits).toEqual(["no other members"]);
    expect(node.children()).toMatchObject([
      { name: "temp", member: true, type: "number", required: true, limits: ["-60 to 125"], words: [["x-cbor-key", "3"]] },
      { name: "pos", type: "string or null", required: false, limits: ["at most 12 characters", "matches ^x"] },
    ]);
  });
  it("shows the members of an array's items directly below the array", () => {
    const node = tree({ type: "array", minItems: 1, maxItems: 16, items: { type: "object", "x-ref": "#/components/schemas/Device", properties: { id: { type: "string" } } } });
    expect(node).toMatchObject({ type: "array of object", component: "Device", limits: ["1 to 16 items"] });
    expect(node.children().map((c) => c.name)).toEqual(["id"]);
  });
  it("opens a schema that holds itself level by level", () => {
    const document = { components: { schemas: { Tree: { type: "object", properties: { child: { $ref: "#/components/schemas/Tree" } } } } } };
    let node = tree({ $ref: "#/components/schemas/Tree" }, document);
    for (let i = 0; i < 5; i++) {
      expect(node).toMatchObject({ type: "object", component: "Tree", hasChildren: true });
      node = node.children()[0]!;
    }
  });
  it("ends the type of an array of itself", () => {
    const document = { a: { type: "array", items: { $ref: "#/a" } } };
    expect(tree({ $ref: "#/a" }, document).type).toBe("array of array of array of array of array");
  });
  it("names alternatives", () => {
    const node = tree({ oneOf: [{ type: "string" }, { const: 7 }] });
    expect(node.type).toBe("one of several");
    expect(node.children()).toMatchObject([{ name: "one of", member: false, type: "string" }, { name: "one of", type: "number", values: ["7"] }]);
  });
  it("reads OpenAPI 3.0's words, too", () => {
    expect(tree({ type: "integer", nullable: true, minimum: 0, exclusiveMinimum: true })).toMatchObject({ type: "integer or null", limits: ["more than 0"] });
    expect(tree({ type: "integer", exclusiveMinimum: 0, maximum: 9 }).limits).toEqual(["more than 0", "at most 9"]);
  });
  it("says what allows anything or nothing", () => {
    expect([tree(true).type, tree({}).type, tree(false).type]).toEqual(["anything", "anything", "nothing"]);
  });
  it("survives documents that are not what they should be", () => {
    for (const wrong of [null, 3, "x", [], { type: 7, properties: [], enum: "a", required: {} }, { $ref: "#/nowhere/%" }, { $ref: 5 }]) expect(() => tree(wrong).children()).not.toThrow();
  });
});
