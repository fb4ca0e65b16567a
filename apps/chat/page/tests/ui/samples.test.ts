import assert from "node:assert/strict";
import { test } from "node:test";
import { DIRECTIONS, LANGUAGES } from "../../src/model/types.ts";
import { isSample, sample } from "../../src/ui/settings/samples.ts";

test("a sample is known as one, until it is changed", () => {
  for (const direction of DIRECTIONS) {
    for (const language of LANGUAGES) {
      const source = sample(direction, language);
      assert.ok(isSample(direction, source));
      assert.ok(!isSample(direction, `${source} `));
    }
  }
});
