import { describe, expect, it } from "vitest";
import type { SchemaOperator } from "@/api/schema.gen";
import { checkOperatorName, invitationLink, isLastOwner } from "./roles";

const operator = (name: string, role: SchemaOperator["role"], state: SchemaOperator["state"] = "active"): SchemaOperator => ({ name, role, state, createdAt: "2026-11-22T00:00:00Z" });

describe("isLastOwner", () => {
  const ana = operator("ana", "owner");
  it("is who nobody can replace", () => {
    expect(isLastOwner(ana, [ana, operator("ben", "operator")])).toBe(true);
    expect(isLastOwner(ana, [ana, operator("ben", "owner", "invited")])).toBe(true);
    expect(isLastOwner(ana, [ana, operator("ben", "owner", "disabled")])).toBe(true);
  });
  it("is nobody where there are two, or who is no owner", () => {
    expect(isLastOwner(ana, [ana, operator("ben", "owner")])).toBe(false);
    const ben = operator("ben", "operator");
    expect(isLastOwner(ben, [ana, ben])).toBe(false);
  });
});

it("checks names as the API does", () => {
  expect(checkOperatorName("ana.b-2")).toBeUndefined();
  for (const wrong of ["", "Ana", "-ana", "a b", "a".repeat(65)]) expect(checkOperatorName(wrong)).toBeDefined();
});

it("puts the token into the fragment", () => {
  expect(invitationLink("https://fg.example", "fgi_1")).toBe("https://fg.example/#token=fgi_1");
});
