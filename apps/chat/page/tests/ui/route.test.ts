import assert from "node:assert/strict";
import { test } from "node:test";
import { type Route, href, readRoute } from "../../src/ui/route.ts";

const routes: Route[] = [
  { view: "home" },
  { view: "notices" },
  { view: "settings", section: "incoming" },
  { view: "conversation", conversationId: "6f1f9d0e-8f4a-5f0e-9c9b-0a4b6f1f9d0e" },
];

for (const route of routes) {
  test(`${route.view} survives the way through the address`, () => {
    assert.deepEqual(readRoute(href(route)), route);
  });
}

test("an address that leads nowhere leads home", () => {
  for (const hash of ["", "#", "#/nowhere", "#/conversation", "#/conversation/"]) {
    assert.deepEqual(readRoute(hash), { view: "home" });
  }
  assert.deepEqual(readRoute("#/settings/none"), { view: "settings", section: "appearance" });
});
